//! Files of every format, whole and damaged: what goes out comes in again, and what does not fit is
//! named.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::fs;
use std::path::PathBuf;

use arrowhop_weights::{
    ArraySpec, Format, Network, architecture, decode, encode, read, read_by_name,
};
use tempfile::TempDir;

/// A dense network of this shape, with its arrays.
fn network(units: &[usize]) -> (String, Vec<ArraySpec>) {
    let (mut layers, mut arrays) = (Vec::new(), Vec::new());
    for (i, pair) in units.windows(2).enumerate() {
        let name = format!("dense_{i}");
        let (inputs, outputs) = (pair[0], pair[1]);
        layers.push(format!(
            r#"{{"class_name":"Dense","config":{{"name":"{name}","units":{outputs}}}}}"#
        ));
        arrays.push(ArraySpec { name: format!("{name}/kernel"), shape: vec![inputs, outputs] });
        arrays.push(ArraySpec { name: format!("{name}/bias"), shape: vec![outputs] });
    }
    let json = format!(
        r#"{{"class_name":"Sequential","config":{{"name":"n","layers":[{}]}}}}"#,
        layers.join(",")
    );
    (json, arrays)
}

/// Numbers that all differ.
fn numbers(arrays: &[ArraySpec]) -> Vec<Vec<f32>> {
    let mut number = 0.0;
    let mut next = || {
        number += 0.25;
        number
    };
    arrays.iter().map(|array| (0..array.elements()).map(|_| next()).collect()).collect()
}

/// A folder with one file of weights.
fn file_with(format: Format, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format.file_name());
    fs::write(&file, bytes).unwrap();
    (folder, file)
}

#[test]
fn what_goes_out_comes_in_again() {
    let (keras_json, arrays) = network(&[4, 3, 2]);
    let network = Network { keras_json: &keras_json, arrays: &arrays };
    let weights = numbers(&arrays);
    for format in Format::ALL {
        let bytes = encode(format, &network, &weights, "a test").unwrap();
        assert_eq!(bytes, encode(format, &network, &weights, "a test").unwrap(), "{format:?}");
        let (_folder, file) = file_with(format, &bytes);
        assert_eq!(Format::of(&file), Some(format));
        assert_eq!(read(&file, &network).unwrap(), weights, "{format:?}");
        let by_name = read_by_name(&file, &network);
        if format == Format::Raw {
            assert!(by_name.unwrap_err().to_string().contains("has no names"));
            continue;
        }
        let transfer = by_name.unwrap();
        assert_eq!(transfer.loaded, ["dense_0", "dense_1"], "{format:?}");
        let arrays: Vec<_> = transfer.arrays.into_iter().map(Option::unwrap).collect();
        assert_eq!(arrays, weights, "{format:?}");
    }
}

#[test]
fn another_networks_file_is_refused_array_by_array() {
    let (keras_json, arrays) = network(&[4, 3, 2]);
    let (other_json, other) = network(&[4, 5, 2, 2]);
    let theirs = Network { keras_json: &other_json, arrays: &other };
    let ours = Network { keras_json: &keras_json, arrays: &arrays };
    for format in [Format::Safetensors, Format::Npz, Format::H5, Format::Keras] {
        let bytes = encode(format, &theirs, &numbers(&other), "a test").unwrap();
        let (_folder, file) = file_with(format, &bytes);
        let problems = read(&file, &ours).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places.len(), 5, "{format:?}: {problems}");
        assert_eq!(places[2..], ["dense_0/kernel", "dense_0/bias", "dense_1/kernel"], "{format:?}");
        assert!(problems.to_string().contains("in the file has [4, 5]"), "{format:?}: {problems}");
    }
    let bytes = encode(Format::Raw, &theirs, &numbers(&other), "a test").unwrap();
    let (_folder, file) = file_with(Format::Raw, &bytes);
    assert!(read(&file, &ours).unwrap_err().to_string().starts_with("file: has 172 bytes"));
}

#[test]
fn keras_names_alone_are_enough_in_any_order() {
    use safetensors::tensor::{Dtype, TensorView};
    let (keras_json, arrays) = network(&[2, 2]);
    let network = Network { keras_json: &keras_json, arrays: &arrays };
    let (kernel, bias) = ([1.0_f32, 2.0, 3.0, 4.0], [5.0_f32, 6.0]);
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    let (kernel_bytes, bias_bytes) = (bytes(&kernel), bytes(&bias));
    let file = |dtype: Dtype, shape: Vec<usize>| {
        let tensors = [
            ("dense_0/bias", TensorView::new(Dtype::F32, vec![2], &bias_bytes).unwrap()),
            ("dense_0/kernel", TensorView::new(dtype, shape, &kernel_bytes).unwrap()),
        ];
        file_with(Format::Safetensors, &safetensors::serialize(tensors, None).unwrap())
    };
    let (_folder, path) = file(Dtype::F32, vec![2, 2]);
    assert_eq!(read(&path, &network).unwrap(), [kernel.to_vec(), bias.to_vec()]);
    let (_folder, path) = file(Dtype::I32, vec![2, 2]);
    let problems = read(&path, &network).unwrap_err().to_string();
    assert_eq!(problems, "dense_0/kernel: holds I32 in the file; save it as F32");
}

#[test]
fn no_damaged_byte_panics_or_passes_for_another_shape() {
    let (keras_json, arrays) = network(&[3, 2]);
    let network = Network { keras_json: &keras_json, arrays: &arrays };
    let weights = numbers(&arrays);
    for format in Format::ALL {
        let bytes = encode(format, &network, &weights, "a test").unwrap();
        let mut refused = 0;
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0xa5;
            match decode(format, damaged, &network) {
                Err(_) => refused += 1,
                Ok(found) => {
                    let lengths: Vec<_> = found.iter().map(Vec::len).collect();
                    assert_eq!(lengths, [6, 2], "{format:?}, byte {i}");
                }
            }
        }
        assert!(format == Format::Raw || refused > 20, "{format:?}: only {refused}");
        for length in 0..bytes.len() {
            // What is cut off HDF5's end may be nothing that is read.
            if let Ok(found) = decode(format, bytes[..length].to_vec(), &network) {
                assert_eq!((format, found), (Format::H5, weights.clone()), "cut to {length}");
            }
        }
    }
}

#[test]
fn a_whole_models_architecture_is_read_and_that_of_weights_alone_is_missed() {
    let (keras_json, arrays) = network(&[3, 2]);
    let network = Network { keras_json: &keras_json, arrays: &arrays };
    let weights = numbers(&arrays);
    let of = |format: Format| {
        let bytes = encode(format, &network, &weights, "a test").unwrap();
        let (_folder, file) = file_with(format, &bytes);
        architecture(&file)
    };
    assert_eq!(of(Format::Keras), Ok(Some(keras_json.clone())));
    assert_eq!(of(Format::Npz), Ok(None));
    assert!(of(Format::H5).unwrap_err().to_string().contains("holds weights alone"));
}

#[test]
fn a_file_that_is_none_says_so() {
    let network = Network { keras_json: "{}", arrays: &[] };
    let unknown = read(&PathBuf::from("weights.pickle"), &network).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "file: is no weight file by its name; known: .safetensors, .npz, .f32, .h5, .keras"
    );
    for format in [Format::Safetensors, Format::Npz, Format::H5, Format::Keras] {
        let (_folder, file) = file_with(format, b"this is something else");
        assert!(read(&file, &network).is_err(), "{format:?}");
    }
}
