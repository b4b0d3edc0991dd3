//! How a person names data: a data set by name or id, and a part of it.

use arrowhop_types::{DataSetId, Part, Problems};

use super::NAME_BYTES_MAX;

/// A data set as a descriptor or a criterion names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSetName {
    /// By its id, in 64 hexadecimal digits.
    Id(DataSetId),
    /// By the name it was given.
    Name(String),
}

/// A descriptor's path: `[data set, part]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPath {
    /// The data set.
    pub data_set: DataSetName,
    /// The part of it, over all its shards.
    pub part: Part,
}

impl PartPath {
    /// The path to put into a descriptor.
    #[must_use]
    pub fn to_path(&self) -> Vec<String> {
        let data_set = match &self.data_set {
            DataSetName::Id(id) => id.to_string(),
            DataSetName::Name(name) => name.clone(),
        };
        vec![data_set, self.part.name().to_owned()]
    }
}

impl TryFrom<&[String]> for PartPath {
    type Error = Problems;

    fn try_from(path: &[String]) -> Result<Self, Problems> {
        let [data_set, part] = path else {
            let text = format!("has {} elements, not a data set and a part", path.len());
            return Err(Problems::one("descriptor.path", text));
        };
        let part = part_named("descriptor.path[1]", part)?;
        Ok(Self { data_set: data_set.as_str().try_into()?, part })
    }
}

/// The part of this name.
pub(super) fn part_named(place: &str, name: &str) -> Result<Part, Problems> {
    let known = [Part::Train, Part::Validation].into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| Problems::one(place, "is neither train nor validation"))
}

impl TryFrom<&str> for DataSetName {
    type Error = Problems;

    fn try_from(text: &str) -> Result<Self, Problems> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            let problem = format!("has {} bytes, not 1 to {NAME_BYTES_MAX}", text.len());
            return Err(Problems::one("data set", problem));
        }
        Ok(text
            .parse()
            .map_or_else(|_| Self::Name(text.to_owned()), |digest| Self::Id(DataSetId(digest))))
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::Digest;

    use super::*;

    #[test]
    fn a_path_names_a_data_set_by_id_or_by_name() {
        let id = DataSetName::Id(DataSetId(Digest([0xab; 32])));
        for data_set in [id, DataSetName::Name("cifar10".into())] {
            let path = PartPath { data_set, part: Part::Validation };
            assert_eq!(PartPath::try_from(path.to_path().as_slice()), Ok(path));
        }
    }

    #[test]
    fn other_paths_are_refused_with_a_reason() {
        let refusal = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(ToString::to_string).collect();
            PartPath::try_from(path.as_slice()).unwrap_err().to_string()
        };
        assert_eq!(refusal(&["a"]), "descriptor.path: has 1 elements, not a data set and a part");
        assert_eq!(refusal(&["a", "b"]), "descriptor.path[1]: is neither train nor validation");
        assert_eq!(refusal(&["", "train"]), "data set: has 0 bytes, not 1 to 256");
    }
}
