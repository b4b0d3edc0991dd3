//! Joins a supervisor, and joins it again whenever nobody is attached.

use std::time::Duration;

use actix::Recipient;
use arrowhop_flight::connect;
use arrowhop_runtime::ask;
use arrowhop_wire::control::SegmentInfo;
use arrowhop_wire::control::supervisor_client::SupervisorClient;
use tokio::sync::watch;
use tonic::Status;
use tracing::{debug, warn};

use crate::actors::host::IsAttached;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a segment looks whether it is attached, and how often it tries to join.
const INTERVAL: Duration = Duration::from_millis(1_000);

/// Keeps the segment joined until `stopped` says so.
pub(crate) async fn stay_joined(
    supervisor: String,
    info: SegmentInfo,
    attached: Recipient<IsAttached>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut failed = false;
    loop {
        match ask(&attached, IsAttached, TIMEOUT).await {
            Ok(true) => failed = false,
            Ok(false) => match join(&supervisor, info.clone()).await {
                Ok(()) => debug!(supervisor, "joined"),
                // Once: a supervisor may be minutes away, and this is tried every second.
                Err(status) if !failed => {
                    failed = true;
                    let reason = status.message();
                    warn!(supervisor, reason, "cannot join the supervisor; trying again");
                }
                Err(_) => {}
            },
            Err(error) => return warn!(%error, "the host is gone"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn join(supervisor: &str, info: SegmentInfo) -> Result<(), Status> {
    let channel = connect(supervisor, TIMEOUT).await?;
    let mut client = SupervisorClient::new(channel);
    let answer = tokio::time::timeout(TIMEOUT, client.join(info)).await;
    answer.map_err(|_| Status::deadline_exceeded("no answer"))??;
    Ok(())
}
