//! Well-known data sets, prepared as experiments prepare them. They are no part of this project:
//! where they are not beside it, these tests say so and pass.

use std::path::PathBuf;

use arrowhop_types::{ClassList, Dtype, Part, Target};

use crate::fixtures::{all_columns, generated_spec, train_of, validation_of};
use crate::{DataSpec, Inputs, Location, NamedInputs, Origin, TargetSpec, TensorInputs, prepare};

fn data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: {name} is not there");
        return None;
    }
    Some(path)
}

fn spec(train: PathBuf, validation: Option<PathBuf>, inputs: Inputs) -> DataSpec {
    let target = TargetSpec { column: "label".into(), ..TargetSpec::default() };
    let (inputs, targets) = (vec![NamedInputs { name: None, inputs }], vec![target]);
    DataSpec {
        origin: Origin::Tables {
            train: Location::File(train),
            validation: validation.map(Location::File),
            test: None,
            inputs,
            targets,
        },
        ..generated_spec(0, 0)
    }
}

fn images(normalize: f32) -> Inputs {
    Inputs::Tensor(TensorInputs { normalize, ..TensorInputs::of("image") })
}

#[test]
fn cifar_10_is_decoded_as_far_as_it_is_used() {
    let (Some(train), Some(test)) =
        (data("cifar10-train-jpeg.parquet"), data("cifar10-test-jpeg.parquet"))
    else {
        return;
    };
    let spec = DataSpec { max_rows: Some(200), ..spec(train, Some(test), images(256.0)) };
    let prepared = prepare(&spec).unwrap();
    let set = &prepared.data_set;
    assert_eq!(
        (set.inputs[0].shape.as_slice(), set.inputs[0].dtype),
        (&[32, 32, 3][..], Dtype::U8)
    );
    let Target::Classes(list) = &set.targets[0].target else { panic!("not classes") };
    assert_eq!((list.len(), list.name(0), list.name(9)), (10, Some("airplane"), Some("truck")));
    assert_eq!((set.rows(Part::Train), set.rows(Part::Validation)), (200, 200));
    assert!(set.shards.iter().all(|s| (s.train_rows, s.validation_rows) == (50, 50)));
    let mean = |x: &[f32]| x.iter().sum::<f32>() / 3_072.0;
    let means: Vec<f32> = train_of(&prepared).iter().map(|(_, x, _)| mean(x)).collect();
    let overall = means.iter().sum::<f32>() / 200.0;
    assert!((100.0..140.0).contains(&overall), "photographs are of middling light: {overall}");
}

#[test]
fn fashion_mnist_has_every_row_once_and_keeps_its_digest_over_seeds() {
    let (Some(train), Some(test)) =
        (data("fashion-mnist-train.parquet"), data("fashion-mnist-test.parquet"))
    else {
        return;
    };
    let spec = DataSpec { shards: 7, ..spec(train, Some(test), images(255.0)) };
    let prepared = prepare(&spec).unwrap();
    let set = &prepared.data_set;
    assert_eq!(
        (set.inputs[0].shape.as_slice(), set.inputs[0].dtype),
        (&[28, 28, 1][..], Dtype::U8)
    );
    let sizes: Vec<u64> = set.shards.iter().map(|shard| shard.train_rows).collect();
    assert_eq!(sizes, [8_572, 8_572, 8_572, 8_571, 8_571, 8_571, 8_571]);
    for (part, rows, count) in
        [("train", train_of(&prepared), 60_000), ("validation", validation_of(&prepared), 10_000)]
    {
        let mut numbers: Vec<u64> = rows.iter().map(|(row, ..)| *row).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{part}");
        let boots = rows.iter().filter(|(.., y)| y[0] == 9.0).count() as u64;
        assert_eq!(boots, count / 10, "{part}: every class has a tenth of the rows");
    }
    let batches = &prepared.shards[0].train;
    assert!(batches[..batches.len() - 1].iter().all(|batch| batch.num_rows() == 1_337));

    let other = prepare(&DataSpec { seed: 1, shards: 3, ..spec }).unwrap();
    assert_eq!(other.data_set.rows_digest, set.rows_digest);
    assert_ne!(other.data_set.id, set.id);
}

#[test]
fn iris_is_split_and_bounded_without_losing_a_class() {
    let Some(path) = data("iris.parquet") else { return };
    let spec = DataSpec {
        validation_fraction: Some(0.2),
        max_rows: Some(60),
        shards: 2,
        ..spec(path, None, all_columns())
    };
    let prepared = prepare(&spec).unwrap();
    assert_eq!(prepared.data_set.inputs[0].shape, [4]);
    assert_eq!(prepared.data_set.rows(Part::Train), 60);
    assert_eq!(prepared.data_set.rows(Part::Validation), 30);
    let names = ["setosa", "versicolor", "virginica"];
    let list = ClassList::named(names);
    assert_eq!(prepared.data_set.targets[0].target, Target::Classes(list));
    for class in [0.0, 1.0, 2.0] {
        let rows = train_of(&prepared).iter().filter(|(.., y)| y[0] == class).count();
        assert!((10..=30).contains(&rows), "{rows} of class {class}");
    }
}

#[test]
fn adult_is_standardised_and_one_hot() {
    let (Some(train), Some(test)) = (data("adult-train.parquet"), data("adult-test.parquet"))
    else {
        return;
    };
    let prepared = prepare(&spec(train, Some(test), all_columns())).unwrap();
    assert_eq!(prepared.data_set.inputs[0].shape, [WIDTH_OF_ADULT]);
    let rows = train_of(&prepared);
    assert_eq!((rows.len(), validation_of(&prepared).len()), (32_561, 16_281));
    let age: f64 = rows.iter().map(|(_, x, _)| f64::from(x[0])).sum::<f64>() / 32_561.0;
    let spread: f64 = rows.iter().map(|(_, x, _)| f64::from(x[0]).powi(2)).sum::<f64>() / 32_561.0;
    assert!(age.abs() < 1e-6 && (spread - 1.0).abs() < 1e-6, "{age} {spread}");
    // Six numbers, and one category of each of the eight others.
    assert!(rows.iter().all(|(_, x, _)| x.iter().filter(|v| **v == 1.0).count() >= 8));
    let rich = rows.iter().filter(|(.., y)| y[0] == 1.0).count();
    assert_eq!(rich, 7_841);
}

/// 6 numbers and 9 + 16 + 7 + 15 + 6 + 5 + 2 + 42 categories, missing ones among them.
const WIDTH_OF_ADULT: usize = 108;
