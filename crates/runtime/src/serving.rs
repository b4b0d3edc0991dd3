//! A service that runs: where it is reached, and how it ends.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Open streams may outlive the wish to stop by this.
const GOODBYE: Duration = Duration::from_secs(2);

/// A service that is running; `E` is its error.
#[derive(Debug)]
pub struct Serving<E> {
    /// Where it is reached, such as `grpc://10.0.0.7:7410`.
    pub uri: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), E>>,
}

impl<E> Serving<E> {
    /// A service in `task` that ends when `stop` says true, or is gone.
    #[must_use]
    pub fn new(uri: String, stop: watch::Sender<bool>, task: JoinHandle<Result<(), E>>) -> Self {
        Self { uri, stop, task }
    }

    /// Stops serving; what is still open after two seconds is cut.
    ///
    /// # Errors
    /// When serving had broken off.
    ///
    /// # Panics
    /// When the service had.
    pub async fn stop(self) -> Result<(), E> {
        self.stop.send_replace(true);
        let cut = self.task.abort_handle();
        match tokio::time::timeout(GOODBYE, self.task).await {
            Ok(served) => served.expect("a service does not panic"),
            Err(_) => {
                cut.abort();
                Ok(())
            }
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When serving broke off.
    ///
    /// # Panics
    /// When the service did.
    pub async fn ended(&mut self) -> Result<(), E> {
        (&mut self.task).await.expect("a service does not panic")
    }
}

/// Waits for the wish to stop, which is also that nobody is left to have it.
pub async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_ends_when_it_is_told_to_or_is_cut() {
        let (stop, stopped) = watch::channel(false);
        let polite = tokio::spawn(async move {
            until_stopped(stopped).await;
            Ok::<(), ()>(())
        });
        assert_eq!(Serving::new(String::new(), stop, polite).stop().await, Ok(()));
        let (stop, _) = watch::channel(false);
        let deaf = tokio::spawn(std::future::pending::<Result<(), ()>>());
        assert_eq!(Serving::new(String::new(), stop, deaf).stop().await, Ok(()));
    }
}
