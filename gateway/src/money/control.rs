//! Reads what the grant task tells this gateway. Messages may be lost, doubled or late; the place in the stream is kept
//! over a broken connection, and each new connection asks for all totals, so that a lost grant is not lost for long.

use std::{sync::Arc, time::Duration};

use odock_events::log::{
    LogError,
    messages::{AskMessage, ControlMessage},
    reader::{StreamId, StreamReader},
};

use super::{Money, MoneyLinks};

const BLOCK: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(200);

pub(super) async fn follow(money: Arc<Money>, links: MoneyLinks) {
    let mut place = None;
    let mut broken = false;
    loop {
        if let Err(error) = read(&money, &links, &mut place, &mut broken).await {
            if !broken {
                tracing::warn!(%error, "the grant task's messages do not come in");
            }
            broken = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(
    money: &Money,
    links: &MoneyLinks,
    place: &mut Option<StreamId>,
    broken: &mut bool,
) -> Result<(), LogError> {
    let gateway_id = money.gateway_id;
    let mut reader = StreamReader::connect(&links.redis_url).await?;
    let mut after = match place.take() {
        Some(after) => after,
        None => reader.control_end(gateway_id).await?,
    };
    *place = Some(after.clone());
    links
        .log
        .send_ask(&AskMessage::Totals { gateway_id })
        .await?;
    loop {
        let messages = reader.control(gateway_id, &after, BLOCK).await?;
        *broken = false;
        for (id, message) in messages {
            after = id;
            *place = Some(after.clone());
            learn(money, links, &message);
            money.receive(message);
        }
    }
}

/// A grant whose answer was lost before this process began is of an account that the purse has never seen: it is
/// opened as the configuration describes it, so that its money can be spent or given back.
fn learn(money: &Money, links: &MoneyLinks, message: &ControlMessage) {
    let ControlMessage::Leases { leases } = message else {
        return;
    };
    for lease in leases.iter().filter(|lease| lease.granted > 0) {
        let id = lease.account;
        if !money.knows(id)
            && let Some(account) = (links.next_window)(id, None, id.window_start)
            && account.id == id
        {
            money.learn(&account);
        }
    }
}
