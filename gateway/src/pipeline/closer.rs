//! Finishes what others could not: calls whose caller went away, and calls that the journal did not take at first. One
//! task, started by `startup`; it ends when the queue is closed and every place in it is given back.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::open_call::{Books, Unfinished};

/// Runs until `close` is cancelled and every call is finished. Calls that cannot be written are tried again; when the
/// queue fills up behind one, no new call begins.
pub(crate) async fn run(
    mut queue: Receiver<Unfinished>,
    books: Arc<Books>,
    close: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = queue.recv() => next,
            () = close.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        let Some(unfinished) = next else { return };
        let mut outcome = match unfinished {
            Unfinished::Abandoned(record) => books.close(*record),
            Unfinished::Unwritten(done) => books.write(*done),
        };
        while let Err(done) = outcome {
            tokio::time::sleep(RETRY).await;
            outcome = books.write(*done);
        }
    }
}

const RETRY: Duration = Duration::from_millis(100);
