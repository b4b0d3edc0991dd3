//! What flows between layers: a batch of values of one shape.

use burn::tensor::Tensor;

use crate::layer::Shape;

/// A batch of values, row-major, in the layout that the model declares.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// (batch, elements); of a one-hot value (batch, indices).
    rows: Tensor<2>,
    /// Of one example.
    shape: Shape,
    /// (batch, steps): 1 for the steps that count, 0 for those that are hidden.
    pub(crate) mask: Option<Tensor<2>>,
    /// The rows hold the indices of ones in a vector that is not written out.
    is_one_hot: bool,
}

impl Value {
    /// A batch of examples of this shape, as rows of elements.
    pub(crate) fn of_rows(rows: Tensor<2>, shape: Shape) -> Self {
        debug_assert_eq!(rows.dims()[1], shape.iter().product::<usize>(), "{shape:?}");
        Self { rows, shape, mask: None, is_one_hot: false }
    }

    /// A batch of vectors of `width` with ones at these indices (batch, indices); an index that
    /// comes twice counts twice.
    pub(crate) fn one_hot(indices: Tensor<2>, width: usize) -> Self {
        Self { rows: indices, shape: vec![width], mask: None, is_one_hot: true }
    }

    /// From (batch, shape…).
    ///
    /// # Panics
    /// When the tensor has no more than the batch's axis.
    pub(crate) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let [batch, shape @ ..] = &tensor.dims()[..] else { panic!("a value has a batch axis") };
        let (batch, shape) = (*batch, shape.to_vec());
        let elements = shape.iter().product::<usize>();
        Self { rows: tensor.reshape([batch, elements]), shape, mask: None, is_one_hot: false }
    }

    /// The same with this mask.
    pub(crate) fn with_mask(mut self, mask: Option<Tensor<2>>) -> Self {
        self.mask = mask;
        self
    }

    /// (batch, elements).
    ///
    /// # Panics
    /// When it is one-hot: a network is only given one-hot values where Dense layers take them.
    pub(crate) fn rows(self) -> Tensor<2> {
        assert!(!self.is_one_hot, "a one-hot value is only taken by Dense layers");
        self.rows
    }

    /// (batch, places of ones), of a one-hot value.
    pub(crate) fn places(&self) -> Option<Tensor<2>> {
        self.is_one_hot.then(|| self.rows.clone())
    }

    /// (batch, shape…).
    ///
    /// # Panics
    /// When the shape has not D − 1 axes.
    pub(crate) fn tensor<const D: usize>(self) -> Tensor<D> {
        let dims = self.dims::<D>();
        self.rows().reshape(dims)
    }

    /// The same elements as an example of another shape of as many elements.
    pub(crate) fn reshape(mut self, shape: Shape) -> Self {
        debug_assert_eq!(self.shape.iter().product::<usize>(), shape.iter().product::<usize>());
        self.shape = shape;
        self
    }

    /// Element by element.
    pub(crate) fn map(self, function: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        let (shape, mask) = (self.shape.clone(), self.mask.clone());
        Self { rows: function(self.rows()), shape, mask, is_one_hot: false }
    }

    /// Shape of one example.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Examples.
    pub(crate) fn batch(&self) -> usize {
        self.rows.dims()[0]
    }

    fn dims<const D: usize>(&self) -> [usize; D] {
        let mut dims = [self.batch(); D];
        assert_eq!(self.shape.len() + 1, D, "a value of shape {:?} as rank {D}", self.shape);
        dims[1..].copy_from_slice(&self.shape);
        dims
    }
}
