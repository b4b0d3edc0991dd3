//! Layers and their calls, checked: options, shapes, weights and costs. Knows neither JSON nor Burn.
//!
//! A [`Layer`] owns weights. A [`Call`] applies it to values of known shapes; a shared layer has
//! several calls. All shapes are without the batch, in the order that the model declares: channels
//! last, but for layers that say otherwise.

use crate::activation::Activation;
use crate::initializer::Initializer;
use crate::regularizer::Regularizer;
use crate::window::Window;

/// Shape of one example's value.
pub(crate) type Shape = Vec<usize>;

/// Axes of a value at most: tensors of one rank hold values of any shape.
pub(crate) const AXES_MAX: usize = 7;

/// A layer with its weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    /// Unique within its network; layers of a nested model are named `model/layer`.
    pub(crate) name: String,
    /// Keras's class.
    pub(crate) class: String,
    /// The JSON pointer of its entry.
    pub(crate) pointer: String,
    /// In Keras's order.
    pub(crate) weights: Vec<Weight>,
}

/// One weight array of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weight {
    /// Below its layer: `kernel`, or `lstm_cell/kernel`.
    pub(crate) name: String,
    /// In Keras's layout.
    pub(crate) shape: Shape,
    /// Changed by the optimizer: neither frozen nor a moving statistic.
    pub(crate) is_trainable: bool,
    pub(crate) initializer: Initializer,
    pub(crate) regularizer: Option<Regularizer>,
}

/// A layer applied to values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// Its place among the graph's layers.
    pub(crate) layer: usize,
    /// What it computes, fitted to the shapes of its inputs.
    pub(crate) operation: Operation,
    /// What is applied to that.
    pub(crate) activation: Activation,
    /// The values that it takes, by number.
    pub(crate) inputs: Vec<usize>,
    /// Shapes of the values it makes; most layers make one.
    pub(crate) outputs: Vec<Shape>,
    /// Multiply-accumulates of one example's forward pass, of kernels only.
    pub(crate) macs: u64,
    pub(crate) mask: MaskRule,
}

/// What becomes of the mask of a sequence's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaskRule {
    /// The output has the first input's mask.
    Pass,
    /// Where all of the inputs' masks are true: merges in Keras 2.
    All,
    /// Where any of the inputs' masks is true; none where an input has none: merges in Keras 3.
    Any,
    /// One behind the other, steps without a mask being true: concatenation along the steps.
    Join,
    /// The layer makes one (Masking, or Embedding with `mask_zero`).
    Make,
    /// The layer takes notice of it, and its output has none.
    Consume,
    /// The layer knows nothing of masks: its output has none. Keras 2 refuses such models.
    Drop,
}

/// Where the channels stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    ChannelsLast,
    ChannelsFirst,
}

/// What a layer computes before its activation.
///
/// Weights are given in Keras's order and layout, as [`Layer::weights`] has them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// Nothing: activations, and dropout whose rate is 0.
    Identity,
    /// Over the last axis; kernel (in, out), then bias (out) where the layer has one.
    Dense,
    Convolution(Convolution),
    Pooling {
        kind: Pool,
        window: Window,
        layout: Layout,
    },
    /// Over all axes but the channels, which stay as ones where `keeps_axes`.
    GlobalPooling {
        kind: Pool,
        layout: Layout,
        keeps_axes: bool,
    },
    /// To one axis; channels first are moved last before.
    Flatten {
        layout: Layout,
    },
    /// The same elements in their order as the call's output shape.
    Reshape,
    /// Output axis i is input axis `axes[i]`, from 0, without the batch.
    Permute {
        axes: Vec<usize>,
    },
    /// A vector, `count` times: (count, elements).
    Repeat {
        count: usize,
    },
    /// Cells of padding before and after, for each axis without the batch.
    Pad {
        cells: Vec<(usize, usize)>,
    },
    /// Cells cut off before and after, for each axis without the batch.
    Crop {
        cells: Vec<(usize, usize)>,
    },
    UpSampling(UpSampling),
    /// Zeroes a share of the values in training, and scales the others up by 1 / (1 − rate).
    Dropout {
        rate: f64,
        /// One draw for the whole axis, for each axis without the batch.
        shared_axes: Vec<bool>,
        /// One draw for the whole batch (a `noise_shape` whose first entry is 1).
        shared_batch: bool,
    },
    /// Adds normal noise in training.
    GaussianNoise {
        deviation: f64,
    },
    /// Multiplies by normal noise of mean 1 and deviation √(rate / (1 − rate)) in training.
    GaussianDropout {
        rate: f64,
    },
    /// Dropout that keeps mean and variance of SELU's outputs. Source: Klambauer et al.,
    /// *Self-Normalizing Neural Networks*, 2017.
    AlphaDropout {
        rate: f64,
    },
    BatchNormalization(BatchNormalization),
    /// Mean 0 and variance 1 over these axes (from 0, without the batch); then gamma and beta,
    /// whose shape is that of the axes.
    LayerNormalization {
        axes: Vec<usize>,
        epsilon: f64,
        has_gamma: bool,
        has_beta: bool,
    },
    /// As layer normalisation over all axes, within groups of channels; gamma and beta by channel.
    GroupNormalization {
        groups: usize,
        /// The channels', from 0, without the batch.
        axis: usize,
        epsilon: f64,
        has_gamma: bool,
        has_beta: bool,
    },
    /// x · scale + offset.
    Rescaling {
        scale: f64,
        offset: f64,
    },
    /// Softmax over an axis (from 0, without the batch) other than the last.
    SoftmaxOver {
        axis: usize,
    },
    /// max(0, x) + alpha · min(0, x); alpha has the input's shape, 1 along shared axes.
    ParametricRelu,
    /// Element by element over two or more inputs, broadcasting axes of 1.
    Merge(Merge),
    /// Along an axis, from 0, without the batch.
    Concatenate {
        axis: usize,
    },
    /// Contraction of two inputs over one axis of each, from 0, without the batch.
    Dot {
        axes: [usize; 2],
        /// Each vector is scaled to length 1 before.
        normalizes: bool,
    },
    /// Rows of the embeddings (vocabulary, width) by the input's values; makes a mask of the values
    /// other than 0 where the call's mask rule says so.
    Embedding,
    /// Hides the steps whose elements all equal the value; they become 0.
    Masking {
        value: f64,
    },
    Recurrent(Recurrent),
    /// Weights of the forward layer, then of the backward one.
    Bidirectional {
        forward: Recurrent,
        backward: Recurrent,
        merge: BidirectionalMerge,
    },
    /// The operation and activation on each step of the first axis.
    TimeDistributed {
        operation: Box<Operation>,
        activation: Activation,
    },
    MultiHeadAttention(MultiHeadAttention),
}

/// A convolution over one, two or three axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Convolution {
    pub(crate) kind: ConvolutionKind,
    pub(crate) window: Window,
    pub(crate) layout: Layout,
    /// A bias (out) is the last weight.
    pub(crate) has_bias: bool,
}

/// How channels are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConvolutionKind {
    /// Kernel (k…, in / groups, out).
    Plain { groups: usize },
    /// Kernel (k…, in, multiplier): channel by channel, out = in · multiplier.
    Depthwise,
    /// Depthwise kernel (k…, in, multiplier), then pointwise kernel (1…, in · multiplier, out).
    Separable,
    /// The gradient of a convolution: kernel (k…, out, in). Of the full result, the window's first
    /// `padding.0` cells are cut off and then `output` cells are taken; cells beyond are 0.
    Transposed,
}

/// Which value of a window is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The largest; padding is ignored.
    Max,
    /// The mean of the real cells.
    Average,
}

/// Enlargement by whole factors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UpSampling {
    /// For each spatial axis.
    pub(crate) factors: Vec<usize>,
    pub(crate) layout: Layout,
    /// Between cells' centres, of two spatial axes; else each cell is repeated.
    pub(crate) is_bilinear: bool,
}

/// Batch normalisation over one axis. Weights: gamma and beta where there are any, then moving mean
/// and moving variance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchNormalization {
    /// The channels', from 0, without the batch.
    pub(crate) axis: usize,
    /// Share of the old moving statistics that is kept.
    pub(crate) momentum: f64,
    /// Added to the variance.
    pub(crate) epsilon: f64,
    pub(crate) has_gamma: bool,
    pub(crate) has_beta: bool,
    /// The moving variance is of the n/(n−1) kind: Keras 2 on images with channels last.
    pub(crate) is_unbiased: bool,
    /// Uses its moving statistics in training, too, and keeps them.
    pub(crate) is_frozen: bool,
}

/// Element-wise merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    Add,
    /// The first minus the second, of two.
    Subtract,
    Multiply,
    Average,
    Maximum,
    Minimum,
}

/// A recurrent layer over the first axis, the steps. Inputs: the sequence (steps, width), then the
/// cell's initial states where they are given. Outputs: the result, then the final states where
/// `returns_state`. Weights: kernel, recurrent kernel, bias where there is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recurrent {
    pub(crate) cell: Cell,
    pub(crate) units: usize,
    /// Of the candidate and, in an LSTM, of the output.
    pub(crate) activation: Activation,
    /// Of the gates.
    pub(crate) gate_activation: Activation,
    pub(crate) has_bias: bool,
    pub(crate) returns_sequences: bool,
    pub(crate) returns_state: bool,
    /// Steps are taken from last to first; returned sequences stand in that order.
    pub(crate) goes_backwards: bool,
    /// Starts from where the batch before ended.
    pub(crate) is_stateful: bool,
    /// Share of the inputs zeroed in training: one mask per sequence.
    pub(crate) dropout: f64,
    /// The same of the recurrent state.
    pub(crate) recurrent_dropout: f64,
    /// Hidden steps give zeros instead of the output before: so does each direction of a
    /// Bidirectional layer that returns sequences.
    pub(crate) zeroes_hidden_steps: bool,
    /// Takes each step for shown: Keras 3 gives no mask to a layer that is given initial states.
    pub(crate) ignores_mask: bool,
}

/// A recurrent layer's cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// States: h.
    Simple,
    /// Gates i, f, c, o; states: h, c.
    Lstm,
    /// Gates z, r, h; states: h. `resets_after`: the reset gate is applied after the recurrent
    /// product, and there are two rows of biases.
    Gru { resets_after: bool },
}

impl Cell {
    /// Gates side by side in its kernels.
    pub(crate) fn gates(self) -> usize {
        match self {
            Self::Simple => 1,
            Self::Lstm => 4,
            Self::Gru { .. } => 3,
        }
    }

    /// Tensors of (batch, units) that are carried from step to step.
    pub(crate) fn states(self) -> usize {
        match self {
            Self::Lstm => 2,
            Self::Simple | Self::Gru { .. } => 1,
        }
    }
}

/// What becomes of the two directions' outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BidirectionalMerge {
    Concatenate,
    Sum,
    Multiply,
    Average,
    /// Two outputs.
    Separate,
}

/// Attention with several heads. Inputs: query (…, dim), value, and key where it is given, else the
/// value; all of (steps, dim). Weights: kernel (dim, heads, size) and bias (heads, size) of query,
/// key and value; kernel (heads, value size, out) and bias (out) of the output. Source: Vaswani et
/// al., *Attention Is All You Need*, 2017.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MultiHeadAttention {
    pub(crate) heads: usize,
    pub(crate) key_size: usize,
    pub(crate) value_size: usize,
    pub(crate) has_bias: bool,
    /// Of the attention scores in training.
    pub(crate) dropout: f64,
    /// A step sees none after it.
    pub(crate) is_causal: bool,
}

impl Layer {
    /// Elements of its weight arrays; `only_trainable`: of those that an optimizer changes.
    pub(crate) fn parameters(&self, only_trainable: bool) -> u64 {
        self.weights
            .iter()
            .filter(|weight| weight.is_trainable || !only_trainable)
            .map(|weight| weight.shape.iter().product::<usize>() as u64)
            .sum()
    }
}

impl Operation {
    /// Whether it carries a state from batch to batch.
    pub(crate) fn is_stateful(&self) -> bool {
        match self {
            Self::Recurrent(layer) => layer.is_stateful,
            Self::Bidirectional { forward, .. } => forward.is_stateful,
            Self::TimeDistributed { operation, .. } => operation.is_stateful(),
            _ => false,
        }
    }

    /// Makes a recurrent layer take notice of its input's mask, whatever else it is given.
    pub(crate) fn heed_mask(&mut self) {
        match self {
            Self::Recurrent(layer) => layer.ignores_mask = false,
            Self::Bidirectional { forward, backward, .. } => {
                forward.ignores_mask = false;
                backward.ignores_mask = false;
            }
            _ => {}
        }
    }

    /// Makes it compute in training what it computes in inference, as a call with `training=False`
    /// does.
    pub(crate) fn infer_always(&mut self) {
        match self {
            Self::Dropout { .. }
            | Self::GaussianNoise { .. }
            | Self::GaussianDropout { .. }
            | Self::AlphaDropout { .. } => *self = Self::Identity,
            Self::BatchNormalization(layer) => layer.is_frozen = true,
            Self::Recurrent(layer) => layer.infer_always(),
            Self::Bidirectional { forward, backward, .. } => {
                forward.infer_always();
                backward.infer_always();
            }
            Self::TimeDistributed { operation, .. } => operation.infer_always(),
            Self::MultiHeadAttention(layer) => layer.dropout = 0.0,
            _ => {}
        }
    }
}

impl Recurrent {
    fn infer_always(&mut self) {
        self.dropout = 0.0;
        self.recurrent_dropout = 0.0;
    }
}
