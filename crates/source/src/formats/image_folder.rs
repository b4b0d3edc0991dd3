//! A folder with a folder of JPEG or PNG images for each class: columns `image`, `label` and `file`,
//! in the order of the names. Images are decoded later, where they are used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrowhop_types::Problems;

use super::Rows;
use crate::error::{SourceError, gather_input};
use crate::parallel;
use crate::pictures::is_picture;
use crate::workspace::Workspace;

/// An image's file has at most this many bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Images of a batch.
const BATCH_FILES: usize = 256;

/// An image of a class.
struct Image {
    path: PathBuf,
    class: String,
    /// Below the folder.
    name: String,
}

/// Reads all images' bytes, which the workspace keeps.
pub(crate) fn read(folder: &Path, workspace: &Workspace) -> Result<Rows, SourceError> {
    let images = find(folder)?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("image", DataType::Binary, false),
        Field::new("label", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, false),
    ]));
    let pieces: Vec<&[Image]> = images.chunks(BATCH_FILES).collect();
    let mut problems = Problems::new();
    let mut batches = Vec::new();
    workspace.progress().expect(images.len() as u64);
    for piece in parallel::map(&pieces, |piece| workspace.keep(batch(piece, &schema)?)) {
        batches.extend(gather_input(&mut problems, piece)?);
    }
    Ok(problems.or((schema, batches))?)
}

fn batch(images: &[Image], schema: &Arc<Schema>) -> Result<RecordBatch, Problems> {
    let (mut bytes, mut labels) = (BinaryBuilder::new(), StringBuilder::new());
    let mut files = StringBuilder::new();
    let mut problems = Problems::new();
    for image in images {
        match bytes_of(&image.path) {
            Ok(found) => bytes.append_value(found),
            Err(text) => problems.push(image.path.display().to_string(), text),
        }
        labels.append_value(&image.class);
        files.append_value(&image.name);
    }
    problems.or(())?;
    let columns: Vec<ArrayRef> =
        vec![Arc::new(bytes.finish()), Arc::new(labels.finish()), Arc::new(files.finish())];
    Ok(RecordBatch::try_new(schema.clone(), columns).expect("columns are made to fit the schema"))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let length = path.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("has {length} bytes; at most {FILE_BYTES_MAX} are read of an image"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !is_picture(&bytes) {
        return Err("is neither a JPEG nor a PNG image; take it out of the folder".into());
    }
    Ok(bytes)
}

/// All images, by class and name. Hidden files are left out.
fn find(folder: &Path) -> Result<Vec<Image>, Problems> {
    let mut problems = Problems::new();
    let mut images = Vec::new();
    for (class, path) in entries(folder)? {
        if !path.is_dir() {
            let text = "lies beside the classes' folders; put it into one of them, or take it out";
            problems.push(path.display().to_string(), text);
            continue;
        }
        let files = entries(&path)?;
        if files.is_empty() {
            problems.push(path.display().to_string(), "is a class without images; take it out");
        }
        for (name, path) in files {
            let name = format!("{class}/{name}");
            images.push(Image { path, class: class.clone(), name });
        }
    }
    if images.is_empty() && problems.is_empty() {
        let text = "has no folders of images; make one for each class, or name one file";
        problems.push(folder.display().to_string(), text);
    }
    problems.or(images)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Problems> {
    let place = || folder.display().to_string();
    let cannot = |error: std::io::Error| Problems::one(place(), format!("cannot be read: {error}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Problems::one(path.display().to_string(), "has a name that is not UTF-8; rename it")
        })?;
        if !name.starts_with('.') {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrowhop_types::{ClassList, Target};

    use super::*;
    use crate::fixtures::{file_spec, png, problems, train_of};
    use crate::{Inputs, Location, Origin, TensorInputs, prepare};

    fn folder(dir: &Path) -> PathBuf {
        let all = dir.join("all");
        for (class, value) in [("cats", 10), ("ants", 20)] {
            fs::create_dir_all(all.join(class)).unwrap();
            for i in 0..3_u8 {
                let image = png(&[value + i; 4], [2, 2, 1]);
                fs::write(all.join(class).join(format!("{i}.png")), image).unwrap();
            }
        }
        fs::write(all.join(".hidden"), "").unwrap();
        all
    }

    #[test]
    fn folders_are_classes_and_images_are_rows() {
        let dir = tempfile::tempdir().unwrap();
        let all = folder(dir.path());
        let (_, batches) = read(&all, &Workspace::in_memory()).unwrap();
        let files: Vec<_> = batches[0].column(2).as_string::<i32>().iter().flatten().collect();
        assert_eq!(files[..4], ["ants/0.png", "ants/1.png", "ants/2.png", "cats/0.png"]);

        let image = Inputs::Tensor(TensorInputs::of("image"));
        let mut spec = file_spec(&all, image);
        let Origin::Tables { train, targets, .. } = &mut spec.origin else { panic!("tables") };
        assert_eq!(*train, Location::File(all));
        targets[0].column = "label".into();
        let prepared = prepare(&spec).unwrap();
        let Target::Classes(classes) = &prepared.data_set.targets[0].target else { panic!() };
        assert_eq!(*classes, ClassList::named(["ants", "cats"]));
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        let found: Vec<_> = rows.iter().map(|(_, x, y)| (x[0], y[0])).collect();
        let wanted = [(20.0, 0.0), (21.0, 0.0), (22.0, 0.0), (10.0, 1.0), (11.0, 1.0), (12.0, 1.0)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn everything_that_does_not_belong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let all = folder(dir.path());
        fs::create_dir(all.join("none")).unwrap();
        fs::write(all.join("notes.txt"), "x").unwrap();
        let image = Inputs::Tensor(TensorInputs::of("image"));
        let spec = file_spec(&all, image);
        assert_eq!(
            problems(dir.path(), &spec),
            "all/none: is a class without images; take it out\n\
             all/notes.txt: lies beside the classes' folders; put it into one of them, or take it out"
        );
        fs::remove_dir(all.join("none")).unwrap();
        fs::rename(all.join("notes.txt"), all.join("ants/notes.txt")).unwrap();
        assert_eq!(
            problems(dir.path(), &spec),
            "all/ants/notes.txt: is neither a JPEG nor a PNG image; take it out of the folder"
        );
    }
}
