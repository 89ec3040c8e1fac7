//! Rows for `COPY … FROM STDIN (FORMAT binary)`: the fastest way into Postgres for many rows, used for usage rows and
//! ledger lines. Few rows go as one INSERT with the same binary values: `COPY` ends with a small message of its own, and
//! as sqlx sets no `TCP_NODELAY`, that one waits 40 ms for the acknowledgement of the rows. A call would wait for it, too.

use chrono::NaiveDate;
use odock_events::clock::Timestamp;
use sqlx::{
    Encode, PgConnection, Postgres, QueryBuilder, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};
use uuid::Uuid;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Between 1970 and 2000, where Postgres begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Up to so many values an INSERT is faster.
const INSERTED: u64 = 4_000;

/// A growing binary `COPY` body.
#[derive(Debug)]
pub(crate) struct CopyRows {
    buffer: Vec<u8>,
    columns: i16,
    rows: u64,
}

impl CopyRows {
    pub(crate) fn new(columns: i16) -> Self {
        Self {
            buffer: SIGNATURE.to_vec(),
            columns,
            rows: 0,
        }
    }

    /// Begins a row; exactly `columns` values follow.
    pub(crate) fn row(&mut self) {
        self.buffer.extend(self.columns.to_be_bytes());
        self.rows += 1;
    }

    pub(crate) fn null(&mut self) {
        self.buffer.extend((-1_i32).to_be_bytes());
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        self.field(id.as_bytes());
    }

    pub(crate) fn bigint(&mut self, number: i64) {
        self.field(&number.to_be_bytes());
    }

    pub(crate) fn integer(&mut self, number: i32) {
        self.field(&number.to_be_bytes());
    }

    pub(crate) fn smallint(&mut self, number: i16) {
        self.field(&number.to_be_bytes());
    }

    pub(crate) fn boolean(&mut self, flag: bool) {
        self.field(&[u8::from(flag)]);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.field(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        if text.contains('\0') {
            self.field(without_nul(text).as_bytes());
        } else {
            self.field(text.as_bytes());
        }
    }

    pub(crate) fn time(&mut self, time: Timestamp) {
        self.bigint(time.0.saturating_sub(EPOCH_MICROS));
    }

    pub(crate) fn date(&mut self, date: NaiveDate) {
        let since = date.signed_duration_since(NaiveDate::default()).num_days();
        self.integer((since - EPOCH_MICROS / 86_400_000_000) as i32);
    }

    /// JSON text as `jsonb`.
    pub(crate) fn json(&mut self, json: &[u8]) {
        self.buffer.extend((json.len() as i32 + 1).to_be_bytes());
        self.buffer.push(1);
        self.buffer.extend(json);
    }

    /// Runs `statement`, a `COPY … FROM STDIN (FORMAT binary)`, over the rows. Nothing is sent when there are none.
    pub(crate) async fn send(
        mut self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<u64, sqlx::Error> {
        if self.rows == 0 {
            return Ok(0);
        }
        if self.rows * u64::from(self.columns.unsigned_abs()) <= INSERTED
            && let Some((table, _)) = statement.split_once("FROM STDIN")
        {
            let table = table.trim_start_matches("COPY ");
            return self.insert(connection, table).await;
        }
        self.buffer.extend((-1_i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.buffer).await?;
        copy.finish().await
    }

    async fn insert(self, connection: &mut PgConnection, table: &str) -> Result<u64, sqlx::Error> {
        let mut statement = QueryBuilder::<Postgres>::new("INSERT INTO ");
        statement.push(table);
        let mut rest = self.buffer.get(SIGNATURE.len()..).unwrap_or_default();
        let rows = (0..self.rows).map(|_| {
            take(&mut rest, size_of::<i16>());
            let values = (0..self.columns).map(|_| Value(take_value(&mut rest)));
            values.collect::<Vec<_>>()
        });
        statement.push_values(rows, |mut row, values| {
            for value in values {
                row.push_bind(value);
            }
        });
        let written = statement
            .build()
            .persistent(false)
            .execute(connection)
            .await?;
        Ok(written.rows_affected())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.buffer.extend((bytes.len() as i32).to_be_bytes());
        self.buffer.extend(bytes);
    }
}

/// One value in Postgres' binary format; its type is the column's.
struct Value(Option<Vec<u8>>);

impl Type<Postgres> for Value {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for Value {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = &self.0 else {
            return Ok(IsNull::Yes);
        };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }
}

/// The next value of a `COPY` body.
fn take_value(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take(rest, size_of::<i32>()).try_into();
    let length = usize::try_from(i32::from_be_bytes(length.unwrap_or_default())).ok()?;
    Some(take(rest, length).to_vec())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length.min(rest.len()));
    *rest = after;
    taken
}

/// Postgres has no text with a NUL in it; what a client sent with one must not stop the stream.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
