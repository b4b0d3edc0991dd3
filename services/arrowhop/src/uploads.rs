//! Data that was uploaded to a supervisor: fetched into a folder of its own while it is prepared.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use arrowhop_flight::{FlightPeer, UploadName, connect};
use arrowhop_source::{DataSpec, Location, Origin, Prepared, Workspace, prepare_within};
use arrowhop_types::Problems;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An upload may take this long; 10 GB at 10 MB/s.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1_000);

/// Prepares data, wherever it is. Blocks.
pub(crate) fn prepare_fetched(spec: &DataSpec, workspace: &Workspace) -> anyhow::Result<Prepared> {
    let mut spec = spec.clone();
    // The files lie here until the data is prepared.
    let folder = tempfile::tempdir().context("make a folder for uploads")?;
    let fetched = fetch(&mut spec, folder.path())?;
    let mut prepared = prepare_within(&spec, workspace)?;
    for source in &mut prepared.sources {
        if let Some((url, _)) = fetched.iter().find(|(_, file)| *file == source.name) {
            source.name.clone_from(url);
        }
    }
    Ok(prepared)
}

/// Puts files of a folder in the places of uploads; which for which.
fn fetch(spec: &mut DataSpec, folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut fetched = Vec::new();
    let Origin::Tables { train, validation, test, .. } = &mut spec.origin else {
        return Ok(fetched);
    };
    let locations = [Some(train), validation.as_mut(), test.as_mut()];
    for (part, location) in ["train", "validation", "test"].into_iter().zip(locations) {
        let Some(location) = location.and_then(Location::upload_mut) else { continue };
        let url = location.name();
        let (server, name) = split(&url)?;
        let path = folder.join(format!("{part}.arrow"));
        let fetching = async {
            let peer = FlightPeer::new(connect(&server, CONNECT_TIMEOUT).await?);
            peer.fetch_upload(name, &path, FETCH_TIMEOUT).await
        };
        let runtime = tokio::runtime::Handle::current();
        let done = tokio::task::block_in_place(|| runtime.block_on(fetching));
        done.with_context(|| format!("fetch {url}"))?;
        *location = Location::File(path);
        fetched.push((url, location.name()));
    }
    Ok(fetched)
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
