//! Reads what the grant task tells this gateway. Messages may be lost, doubled or late; the place in the stream is kept
//! over a broken connection, and each new connection asks for all totals, so that a lost grant is not lost for long.

use std::{sync::Arc, time::Duration};

use odock_events::log::{
    LogError,
    messages::AskMessage,
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
            money.receive(message);
        }
    }
}
