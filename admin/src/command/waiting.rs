//! Waiting for a command's outcome: the projector notifies `odock_command` with the id inside its transaction; this task
//! listens and wakes whoever waits. Those who wait also look by themselves now and then, so a lost notification only costs
//! time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use odock_events::ids::CommandId;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const CHANNEL: &str = "odock_command";
const PAUSE: Duration = Duration::from_millis(200);

/// The commands of this process that are under way.
#[derive(Default)]
pub(crate) struct Waiting {
    commands: Mutex<HashMap<CommandId, Waiter>>,
}

struct Waiter {
    notify: Arc<Notify>,
    count: usize,
}

/// One who waits, until it is dropped.
pub(crate) struct Watch<'a> {
    waiting: &'a Waiting,
    id: CommandId,
    pub(crate) notify: Arc<Notify>,
}

impl Waiting {
    pub(crate) fn watch(&self, id: CommandId) -> Watch<'_> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let waiter = commands.entry(id).or_insert_with(|| Waiter {
            notify: Arc::new(Notify::new()),
            count: 0,
        });
        waiter.count += 1;
        Watch {
            waiting: self,
            id,
            notify: Arc::clone(&waiter.notify),
        }
    }

    /// Whether this process has it under way.
    pub(crate) fn holds(&self, id: CommandId) -> bool {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&id)
    }

    fn wake(&self, id: CommandId) {
        if let Some(waiter) = self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            waiter.notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        for waiter in self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            waiter.notify.notify_waiters();
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut commands = self
            .waiting
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(waiter) = commands.get_mut(&self.id) {
            waiter.count -= 1;
            if waiter.count == 0 {
                commands.remove(&self.id);
            }
        }
    }
}

/// Listens until `stop`, on a connection of its own that comes back by itself.
pub(crate) async fn listen(pool: PgPool, app: crate::app::App, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            result = listen_once(&pool, &app.waiting) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "the listener for commands lost its connection");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn listen_once(pool: &PgPool, waiting: &Waiting) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // What was notified before this moment was not heard.
    waiting.wake_all();
    while let Some(notification) = listener.try_recv().await? {
        if let Ok(id) = notification.payload().parse() {
            waiting.wake(id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_who_waits_is_woken_and_forgotten() {
        let waiting = Waiting::default();
        let id = CommandId::generate();
        let watch = waiting.watch(id);
        let second = waiting.watch(id);
        {
            let mut notified = std::pin::pin!(watch.notify.notified());
            notified.as_mut().enable();
            waiting.wake(CommandId::generate());
            waiting.wake(id);
            notified.await;
        }
        drop(second);
        assert!(waiting.holds(id));
        drop(watch);
        assert!(!waiting.holds(id));
    }
}
