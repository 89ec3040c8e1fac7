//! The invariants of the design that a database shows, each as one question whose answers are violations. Asked by
//! tests, by chaos runs and by `odock doctor`, in one snapshot, while everything runs.

use sqlx::{Connection as _, PgConnection};

mod prices;

pub use self::prices::mispriced;

/// One invariant that does not hold somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I16`, as the design numbers them.
    pub invariant: &'static str,
    pub what: String,
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Heads, accounts and leases: seconds on a large database.
    Quick,
    /// Every usage record and ledger entry too.
    Full,
}

struct Question {
    invariant: &'static str,
    depth: Depth,
    /// Gives a text for each violation.
    query: &'static str,
}

/// Asks everything up to `depth`; an empty answer is a sound database.
pub async fn violations(
    connection: &mut PgConnection,
    depth: Depth,
) -> Result<Vec<Violation>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let mut violations = Vec::new();
    for question in QUESTIONS {
        if question.depth == Depth::Full && depth == Depth::Quick {
            continue;
        }
        let found: Vec<String> = sqlx::query_scalar(question.query)
            .fetch_all(&mut *transaction)
            .await?;
        let invariant = question.invariant;
        violations.extend(found.into_iter().map(|what| Violation { invariant, what }));
    }
    transaction.commit().await?;
    Ok(violations)
}

const QUESTIONS: &[Question] = &[
    // Each gateway's seqs are 1..last, no hole, no repeat.
    Question {
        invariant: "I1",
        depth: Depth::Quick,
        query: "SELECT format('gateway %s goes from seq %s to %s', gateway_id, before, first_seq)
             FROM (SELECT gateway_id, first_seq,
                       coalesce(lag(last_seq) OVER (PARTITION BY gateway_id ORDER BY first_seq), 0)
                           AS before
                   FROM usage_batch) AS batch
             WHERE first_seq <> before + 1 LIMIT 100",
    },
    // Positions are 1..head.
    Question {
        invariant: "I2",
        depth: Depth::Quick,
        query: "SELECT format('%s positions from %s to %s, the head is %s', count(DISTINCT position),
                 min(position), max(position), (SELECT position FROM log_head))
             FROM (SELECT position FROM event_log UNION ALL SELECT position FROM usage_batch) AS log
             HAVING count(*) <> (SELECT position FROM log_head)
                 OR count(DISTINCT position) <> count(*)
                 OR coalesce(max(position), 0) <> (SELECT position FROM log_head)",
    },
    // Checkpoints are where the log is.
    Question {
        invariant: "I4",
        depth: Depth::Quick,
        query: "SELECT format('checkpoint %s is at %s, the log at %s', stream, seq, logged)
             FROM (SELECT checkpoint.stream, checkpoint.seq, coalesce(max(batch.last_seq), 0) AS logged
                   FROM checkpoint LEFT JOIN usage_batch batch
                       ON checkpoint.stream = 'usage:gw_' || replace(batch.gateway_id::text, '-', '')
                   WHERE checkpoint.stream <> 'management' GROUP BY checkpoint.stream, checkpoint.seq
                   UNION ALL
                   SELECT stream, seq, (SELECT count(*) FROM event_log WHERE source = 'management')
                       + (SELECT count(*) FROM event WHERE kind = 'command.rejected')
                   FROM checkpoint WHERE stream = 'management') AS stream
             WHERE seq <> logged LIMIT 100",
    },
    // Same command id, same outcome, one entry.
    Question {
        invariant: "I6",
        depth: Depth::Quick,
        query: "SELECT format('command %s is in the log and not in its table, or the other way', id)
             FROM (SELECT command_id AS id FROM event_log WHERE command_id IS NOT NULL) AS logged
             FULL JOIN command USING (id)
             WHERE logged.id IS NULL OR command.id IS NULL LIMIT 100",
    },
    // Versions of boundaries rise by 1.
    Question {
        invariant: "I7",
        depth: Depth::Quick,
        query: "SELECT format('boundary %s is at %s, its log has %s versions up to %s', id, version,
                 logged.count, logged.max)
             FROM boundary LEFT JOIN (
                 SELECT coalesce(boundary, '00000000-0000-0000-0000-000000000000') AS id, count(*),
                     max(boundary_version)
                 FROM event_log WHERE boundary_version IS NOT NULL GROUP BY 1) AS logged USING (id)
             WHERE version <> coalesce(logged.count, 0) OR version <> coalesce(logged.max, 0)
             LIMIT 100",
    },
    // Configuration versions are contiguous.
    Question {
        invariant: "I9",
        depth: Depth::Quick,
        query: "SELECT format('%s configuration versions up to %s, the head is %s', count(*),
                 max(version), (SELECT version FROM config_head))
             FROM config_delta
             HAVING count(*) <> (SELECT version FROM config_head)
                 OR coalesce(max(version), 0) <> (SELECT version FROM config_head)",
    },
    // Open parts sum to held.
    Question {
        invariant: "I10",
        depth: Depth::Quick,
        query: "SELECT format('account %s of %s holds %s, its leases %s', rule_id, window_start,
                 held, open)
             FROM (SELECT a.rule_id, a.subject, a.window_start, a.held,
                       coalesce(sum(l.granted - l.settled - l.returned), 0) AS open
                   FROM account a LEFT JOIN lease l USING (rule_id, subject, window_start)
                   GROUP BY a.rule_id, a.subject, a.window_start) AS account
             WHERE held <> open LIMIT 100",
    },
    // Hard money is not promised twice.
    Question {
        invariant: "I10",
        depth: Depth::Quick,
        query: "SELECT format('account %s of %s has settled %s and holds %s of %s', rule_id,
                 window_start, settled, held, limit_amount + carried_in - carried_out)
             FROM account a
             WHERE mode = 'hard'
                 AND settled - breached + held > limit_amount + carried_in - carried_out
                 AND NOT EXISTS (SELECT 1 FROM ledger_entry e WHERE e.rule_id = a.rule_id
                     AND e.subject = a.subject AND e.window_start = a.window_start
                     AND e.kind IN ('limit', 'state'))
             LIMIT 100",
    },
    // Accounts and leases are what the ledger says.
    Question {
        invariant: "I10",
        depth: Depth::Full,
        query: "SELECT format('account %s of %s: settled %s, breached %s and carried %s, the ledger %s, %s and %s',
                 rule_id, window_start, settled, breached, carried_in - carried_out, entry.settle,
                 entry.breach, entry.carry)
             FROM account LEFT JOIN (
                 SELECT rule_id, subject, window_start,
                     coalesce(sum(amount) FILTER (WHERE kind = 'carry'), 0) AS carry,
                     coalesce(sum(amount) FILTER (WHERE kind = 'settle'), 0) AS settle,
                     coalesce(sum(amount) FILTER (WHERE kind = 'breach'), 0) AS breach
                 FROM ledger_entry GROUP BY rule_id, subject, window_start) AS entry
                 USING (rule_id, subject, window_start)
             WHERE settled <> coalesce(entry.settle, 0) OR breached <> coalesce(entry.breach, 0)
                 OR carried_in - carried_out <> coalesce(entry.carry, 0)
             LIMIT 100",
    },
    Question {
        invariant: "I10",
        depth: Depth::Full,
        query: "SELECT format('lease %s of %s at %s: granted %s and returned %s, the ledger %s and %s',
                 rule_id, window_start, gateway_id, granted, returned, entry.granted_sum,
                 entry.returned_sum)
             FROM lease LEFT JOIN (
                 SELECT rule_id, subject, window_start, gateway_id,
                     coalesce(sum(amount) FILTER (WHERE kind IN ('grant', 'state')), 0) AS granted_sum,
                     coalesce(sum(amount) FILTER (WHERE kind = 'return'), 0) AS returned_sum
                 FROM ledger_entry GROUP BY rule_id, subject, window_start, gateway_id) AS entry
                 USING (rule_id, subject, window_start, gateway_id)
             WHERE granted <> coalesce(entry.granted_sum, 0)
                 OR returned <> coalesce(entry.returned_sum, 0)
             LIMIT 100",
    },
    // Settled is what the records took of it in its unit, but for those set aside. An interrupted call took all it had
    // reserved of tokens, which nobody counted.
    Question {
        invariant: "I10",
        depth: Depth::Full,
        query: "SELECT format('account %s of %s has settled %s, its records took %s', rule_id,
                 window_start, settled, coalesce(record.taken, 0))
             FROM account LEFT JOIN (
                 SELECT id_uuid(coalesce(used -> 'account' -> 'id' ->> 'budget',
                         used -> 'account' -> 'id' ->> 'quota')) AS rule_id,
                     coalesce(used -> 'account' -> 'id' ->> 'subject',
                         '00000000-0000-0000-0000-000000000000')::uuid AS subject,
                     (used -> 'account' -> 'id' ->> 'window_start')::timestamptz AS window_start,
                     sum(CASE used -> 'account' ->> 'unit'
                         WHEN 'nanos' THEN cost_nanos
                         WHEN 'requests' THEN 1
                         WHEN 'errors' THEN
                             (status IN ('upstream_error', 'timeout', 'interrupted'))::integer
                         WHEN 'latency_ms' THEN latency_ms
                         ELSE greatest(
                             CASE WHEN used -> 'account' ->> 'unit' <> 'tokens_out'
                                 THEN input_tokens + cached_input_tokens + cache_write_tokens ELSE 0 END
                             + CASE WHEN used -> 'account' ->> 'unit' <> 'tokens_in'
                                 THEN output_tokens + reasoning_tokens ELSE 0 END,
                             CASE WHEN status = 'interrupted' AND used -> 'account' ->> 'mode' = 'hard'
                                 THEN (used ->> 'reserved')::bigint ELSE 0 END)
                         END) AS taken
                 FROM usage CROSS JOIN jsonb_array_elements(more -> 'accounts') AS used
                 WHERE NOT EXISTS (SELECT 1 FROM dead_letter d
                     WHERE d.gateway_id = usage.gateway_id AND d.seq = usage.seq)
                 GROUP BY 1, 2, 3) AS record USING (rule_id, subject, window_start)
             WHERE settled <> coalesce(record.taken, 0) LIMIT 100",
    },
    // Each gateway's row has come as far as its stream.
    Question {
        invariant: "I11",
        depth: Depth::Full,
        query: "SELECT format('gateway %s is at %s, its log at %s', gateway.id, last_seq, logged.max)
             FROM gateway LEFT JOIN (
                 SELECT gateway_id AS id, max(last_seq) FROM usage_batch GROUP BY 1) AS logged
                 USING (id)
             WHERE last_seq <> coalesce(logged.max, 0) LIMIT 100",
    },
];
