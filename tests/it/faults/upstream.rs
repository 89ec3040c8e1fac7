//! An upstream behind a bad network: a clear answer in time, nothing held, and others do not notice.

use std::time::{Duration, Instant};

use odock_tests::{
    Stack, Tenant,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    proxy::{Fault, FaultProxy},
    tenant::Key,
    wait::within,
};
use serde_json::json;

/// A tenant behind the proxy and one that is not.
struct Both {
    proxy: FaultProxy,
    behind: Tenant,
    key: Key,
    budget: String,
    beside: Key,
}

impl Both {
    async fn new(stack: &Stack) -> anyhow::Result<Self> {
        let proxy = FaultProxy::start(FaultProxy::server_of(&stack.demo.url)?).await?;
        let behind = Tenant::create(&stack.admin, &proxy.instead_of(&stack.demo.url)?).await?;
        let provider = behind.path(&format!("/providers/{}", behind.provider_id));
        let timeout = json!({ "timeout_ms": FIRST_BYTE.as_millis() as u64 });
        behind.admin.change(&provider, &timeout).await?;
        let key = behind.key().await?;
        Ok(Self {
            budget: behind.key_budget(&key, 1_000_000_000).await?,
            beside: stack.tenant().await?.key().await?,
            proxy,
            behind,
            key,
        })
    }

    /// Who has another upstream is served at once.
    async fn others(&self, stack: &Stack) -> anyhow::Result<()> {
        for _ in 0..5 {
            let began = Instant::now();
            let answer = stack
                .gateway(0)?
                .chat(&self.beside.secret, &say("demo-fast", "hi"))
                .await?;
            answer.expect(200)?;
            let took = began.elapsed();
            anyhow::ensure!(took < Duration::from_secs(1), "{took:?}");
        }
        Ok(())
    }

    /// Both ledgers agree, and nothing is held.
    async fn settled(&self, stack: &Stack) -> anyhow::Result<()> {
        let accounted = assert_accounted(stack).await?;
        let own = accounted.records.iter();
        let own = own.filter(|record| record.key_id == self.key.id);
        let spent: i64 = own.map(|record| record.cost_nanos).sum();
        let window = self.behind.reclaimed(&self.budget).await?;
        assert_eq!((window.settled, window.held), (spent, 0));
        assert_invariants(&stack.postgres).await
    }
}

#[tokio::test]
async fn an_upstream_that_is_lost_before_its_answer_is_told_and_costs_no_more_than_its_input()
-> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let both = Both::new(&stack).await?;
    let gateway = stack.gateway(0)?;
    let hi = say("demo-fast", "hi");
    for (fault, status, codes) in [
        (Fault::Delay(Duration::from_millis(300)), 200, &[""][..]),
        (Fault::Cut, 502, &["upstream_error", "upstream_unreachable"]),
        (
            Fault::Reset,
            502,
            &["upstream_error", "upstream_unreachable"],
        ),
        (Fault::HalfClose, 502, &["upstream_error"]),
        (Fault::Stall, 504, &["upstream_timeout"]),
    ] {
        // On a connection of the pool, and on a new one.
        gateway.chat(&both.key.secret, &hi).await?.expect(200)?;
        both.proxy.set(fault);
        for _ in 0..2 {
            let began = Instant::now();
            let call = gateway.chat(&both.key.secret, &hi);
            let (answer, others) = tokio::join!(call, both.others(&stack));
            others?;
            let answer = answer?;
            let code = answer.json()?["error"]["code"].as_str().map(str::to_owned);
            let code = code.unwrap_or_default();
            assert!(
                answer.status == status && codes.contains(&&*code),
                "{fault:?}: {} {code}",
                answer.status
            );
            assert!(
                began.elapsed() < FIRST_BYTE + Duration::from_secs(2),
                "{fault:?}"
            );
        }
        both.proxy.set(Fault::None);
        gateway.chat(&both.key.secret, &hi).await?.expect(200)?;
    }
    both.settled(&stack).await
}

#[tokio::test]
async fn an_upstream_that_is_lost_within_its_answer_ends_the_stream_with_an_error_and_is_hung_up_on()
-> anyhow::Result<()> {
    let stack = Stack::builder()
        .environment("UPSTREAM_IDLE_TIMEOUT", "1s")
        .start()
        .await?;
    let both = Both::new(&stack).await?;
    let gateway = stack.gateway(0)?;
    for (fault, code) in [
        (Fault::Cut, "upstream_error"),
        (Fault::Reset, "upstream_error"),
        (Fault::HalfClose, "upstream_error"),
        (Fault::Stall, "upstream_timeout"),
    ] {
        let mut stream = gateway
            .stream(&both.key.secret, &say("demo-slow", "hi"))
            .await?;
        assert_eq!(stream.status, 200);
        stream.read_at_least(1).await?;
        both.proxy.set(fault);
        both.others(&stack).await?;
        let answer = within("its end", Duration::from_secs(4), stream.rest()).await?;
        assert_eq!(answer.error_code(), Some(code), "{fault:?}");
        assert!(!answer.done && !answer.broken, "{fault:?}");
        both.proxy.set(Fault::None);
    }
    both.settled(&stack).await?;
    let rows = stack.demo.rows(0).await?;
    let slow: Vec<_> = rows.iter().filter(|row| row.model == "demo-slow").collect();
    assert_eq!(slow.len(), 4);
    for row in slow {
        assert!(
            row.outcome == "client_closed" && row.completion_tokens < 90,
            "it went on for nobody: {row:?}"
        );
    }
    Ok(())
}

const FIRST_BYTE: Duration = Duration::from_secs(2);
