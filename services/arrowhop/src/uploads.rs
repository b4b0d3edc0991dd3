//! Data that was uploaded to a supervisor: fetched into a folder of its own while it is prepared.

use std::time::Duration;

use anyhow::Context;
use arrowhop_flight::{FlightPeer, UploadName, connect};
use arrowhop_source::{DataSpec, Location, Origin, Prepared, prepare};
use arrowhop_types::Problems;
use tempfile::TempDir;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An upload may take this long; 10 GB at 10 MB/s.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1_000);

/// Prepares data, wherever it is. Blocks.
pub(crate) fn prepare_fetched(spec: &DataSpec) -> anyhow::Result<Prepared> {
    let mut spec = spec.clone();
    // The files lie here until the data is prepared.
    let _folder = fetch(&mut spec)?;
    Ok(prepare(&spec)?)
}

/// Puts files in the places of uploads; they go with the folder.
fn fetch(spec: &mut DataSpec) -> anyhow::Result<Option<TempDir>> {
    let Origin::Tables { train, validation, .. } = &mut spec.origin else { return Ok(None) };
    let mut folder = None;
    for (part, location) in [("train", Some(train)), ("validation", validation.as_mut())] {
        let Some(location) = location else { continue };
        let Location::Upload(url) = &*location else { continue };
        let folder = match &folder {
            Some(folder) => folder,
            None => folder.insert(tempfile::tempdir().context("make a folder for uploads")?),
        };
        let (server, name) = split(url)?;
        let path = folder.path().join(format!("{part}.arrow"));
        let fetching = async {
            let peer = FlightPeer::new(connect(&server, CONNECT_TIMEOUT).await?);
            peer.fetch_upload(name, &path, FETCH_TIMEOUT).await
        };
        let runtime = tokio::runtime::Handle::current();
        let fetched = tokio::task::block_in_place(|| runtime.block_on(fetching));
        fetched.with_context(|| format!("fetch {url}"))?;
        *location = Location::File(path);
    }
    Ok(folder)
}

/// A supervisor and an upload's name.
fn split(url: &str) -> Result<(String, UploadName), Problems> {
    let (server, name) = url.rsplit_once('/').unwrap_or((url, ""));
    Ok((
        server.to_owned(),
        UploadName::try_from(name).map_err(|problems| {
            let mut placed = Problems::new();
            placed.extend(&format!("{url}: "), &problems);
            placed
        })?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_supervisor_and_a_name() {
        let (server, name) = split("grpc://head:7400/people").unwrap();
        assert_eq!((&*server, &*name.to_string()), ("grpc://head:7400", "people"));
        let (server, _) = split("grpc+unix:///tmp/head.sock/people").unwrap();
        assert_eq!(server, "grpc+unix:///tmp/head.sock");
        let refused = split("grpc://head:7400").unwrap_err().to_string();
        assert!(refused.contains("has other characters"), "{refused}");
    }
}
