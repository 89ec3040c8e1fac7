//! What lies beside the two exact streams: configuration, messages, watermarks, presences.

use std::time::Duration;

use odock_events::{
    clock::Timestamp,
    ids::{GatewayId, ReclaimId},
    log::{
        ConfigEntry,
        generation::GenerationSeed,
        keys,
        messages::{AskMessage, Beat, ControlMessage, GatewayPresence},
        reader::StreamId,
    },
};

use super::server::{Server, seed};

const BLOCK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn configuration_is_relayed_once_and_in_order() {
    let server = Server::start().await;
    let log = server.log().await;
    log.raise_generation(&GenerationSeed {
        config_version: 40,
        ..seed(1)
    })
    .await
    .unwrap();
    assert_eq!(log.config_top(1).await.unwrap(), Some(40));
    for version in [41, 42, 41, 42, 40] {
        let bytes = format!("row {version}");
        log.relay_config(1, version, bytes.as_bytes())
            .await
            .unwrap();
    }
    assert_eq!(log.config_top(1).await.unwrap(), Some(42));
    let mut reader = server.reader().await;
    let entry = |version: u64| ConfigEntry {
        version,
        bytes: format!("row {version}").into_bytes(),
    };
    let entries = reader.config(1, 0, 10, BLOCK).await.unwrap();
    assert_eq!(entries, [entry(41), entry(42)]);
    let entries = reader.config(1, 41, 10, BLOCK).await.unwrap();
    assert_eq!(entries, [entry(42)]);
    assert_eq!(reader.config(1, 42, 10, BLOCK).await.unwrap(), []);
}

#[tokio::test]
async fn messages_are_read_from_where_the_stream_ended() {
    let server = Server::start().await;
    let log = server.log().await;
    let gateway_id = GatewayId::generate();
    let ask = AskMessage::Totals { gateway_id };
    log.send_ask(&ask).await.unwrap();
    let mut reader = server.reader().await;
    let end = reader.asks_end().await.unwrap();
    assert_eq!(reader.asks(&end, BLOCK).await.unwrap(), []);
    let reclaim = AskMessage::Reclaim {
        reclaim_id: ReclaimId::generate(),
    };
    log.send_ask(&reclaim).await.unwrap();
    let messages = reader.asks(&end, BLOCK).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].1, reclaim);
    assert_eq!(reader.asks(&messages[0].0, BLOCK).await.unwrap(), []);
    let all = reader.asks(&StreamId::beginning(), BLOCK).await.unwrap();
    assert_eq!(all.len(), 2);
    let state = ControlMessage::StateLeases { generation: 7 };
    let control_end = reader.control_end(gateway_id).await.unwrap();
    log.send_control(gateway_id, &state).await.unwrap();
    let control = reader.control(gateway_id, &control_end, BLOCK).await;
    assert_eq!(control.unwrap()[0].1, state);
    let beat = Beat {
        generation: 7,
        config_version: 3,
        at: Timestamp(5),
    };
    let beats_end = reader.beats_end().await.unwrap();
    log.send_beat(&beat).await.unwrap();
    assert_eq!(reader.beats(&beats_end, BLOCK).await.unwrap()[0].1, beat);
}

#[tokio::test]
async fn a_message_of_a_newer_release_is_skipped() {
    let server = Server::start().await;
    let log = server.log().await;
    let _: String = server
        .ask(&["XADD", keys::ASKS, "*", "d", "not a message"])
        .await
        .unwrap();
    let known = AskMessage::Totals {
        gateway_id: GatewayId::generate(),
    };
    log.send_ask(&known).await.unwrap();
    let mut reader = server.reader().await;
    let messages = reader.asks(&StreamId::beginning(), BLOCK).await.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].1, known);
}

#[tokio::test]
async fn lossy_streams_stay_short() {
    let server = Server::start().await;
    let log = server.log().await;
    let gateway_id = GatewayId::generate();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let log = log.clone();
        senders.spawn(async move {
            for _ in 0..1_000 {
                log.send_ask(&AskMessage::Totals { gateway_id })
                    .await
                    .unwrap();
            }
        });
    }
    senders.join_all().await;
    let length: u64 = server.ask(&["XLEN", keys::ASKS]).await.unwrap();
    assert!((10_000..10_200).contains(&length), "{length}");
}

#[tokio::test]
async fn watermarks_and_presences_are_hints_of_one_generation() {
    let server = Server::start().await;
    let log = server.log().await;
    let (one, other) = (GatewayId::generate(), GatewayId::generate());
    log.set_watermarks(1, &[(one, 5), (other, 6)])
        .await
        .unwrap();
    log.set_watermarks(1, &[(one, 7)]).await.unwrap();
    log.set_watermarks(1, &[]).await.unwrap();
    assert_eq!(log.watermark(1, one).await.unwrap(), Some(7));
    assert_eq!(log.watermark(1, other).await.unwrap(), Some(6));
    assert_eq!(log.watermark(2, one).await.unwrap(), None);
    let presence = |gateway_id, applied_version| GatewayPresence {
        gateway_id,
        epoch: 1,
        applied_version,
        applied_at: Timestamp(1),
        heartbeat_at: Timestamp(2),
        closes_when_stale: false,
        max_stale_ms: 1_000,
    };
    for it in [presence(one, 1), presence(other, 1), presence(one, 2)] {
        log.put_presence(1, &it).await.unwrap();
    }
    let mut wanted = vec![presence(one, 2), presence(other, 1)];
    wanted.sort_by_key(|it| it.gateway_id);
    assert_eq!(log.presences(1).await.unwrap(), wanted);
    log.remove_presence(1, one).await.unwrap();
    assert_eq!(log.presences(1).await.unwrap(), [presence(other, 1)]);
    assert_eq!(log.presences(2).await.unwrap(), []);
}
