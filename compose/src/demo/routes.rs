//! The demo upstream's endpoints. The chat call is a straight line: read the body, open its ledger row, decide, wait, answer.
//! Called by hyper for each request.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::{
    answer::{self, Answer, Ending, Refusal},
    body::AnswerBody,
    ledger::{Entry, Ledger, NewRow, Outcome},
    model::{Behaviour, DemoModel},
    request::{ChatBody, ChatCall},
    stream::{Piece, StreamStyle, StreamWriter},
};

/// What all requests share.
pub(super) struct Demo {
    ledger: Arc<Ledger>,
    authorization: Vec<u8>,
}

impl Demo {
    pub(super) fn new(ledger: Arc<Ledger>, key: &str) -> Self {
        Self {
            ledger,
            authorization: format!("Bearer {key}").into_bytes(),
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn authorise(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        if given == Some(&self.authorization) {
            Ok(())
        } else {
            Err(Refusal::unauthorised())
        }
    }
}

type Answered = Response<AnswerBody>;

pub(super) async fn answer(
    demo: Arc<Demo>,
    request: Request<Incoming>,
) -> Result<Answered, Infallible> {
    let path = request.uri().path();
    let route = match path.strip_prefix("/_ledger/") {
        Some(_) => "/_ledger/",
        None => path,
    };
    Ok(match (request.method(), route) {
        (&Method::POST, "/v1/chat/completions") => answer_chat(&demo, request).await,
        (&Method::GET, "/v1/models") => match demo.authorise(request.headers()) {
            Ok(()) => respond_json(200, answer::list_models()),
            Err(refusal) => respond_json(refusal.status, refusal.body()),
        },
        (&Method::GET, "/_health") => respond_json(200, br#"{"status":"ok"}"#.to_vec()),
        (&Method::GET, "/_ledger") => list_ledger(&demo, request.uri().query()).await,
        (&Method::GET, "/_ledger/") => show_body(&demo, path),
        (method, "/v1/chat/completions" | "/v1/models" | "/_health" | "/_ledger" | "/_ledger/") => {
            respond_json(405, Refusal::no_route(405, method, path).body())
        }
        (method, _) => respond_json(404, Refusal::no_route(404, method, path).body()),
    })
}

async fn answer_chat(demo: &Demo, request: Request<Incoming>) -> Answered {
    let (head, incoming) = request.into_parts();
    let body = match read_whole(incoming).await {
        Ok(body) => body,
        Err(refusal) => return respond_json(refusal.status, refusal.body()),
    };
    // From here to the row there is no await: a request that came whole has a row, whatever its caller does.
    let chat = run_long(body.len(), || ChatBody::read(&body));
    let (decided, entry) = match open_row(demo, &head.headers, &body, chat) {
        Ok(opened) => opened,
        Err(refusal) => return respond_json(refusal.status, refusal.body()),
    };
    let (call, behaviour) = match decided {
        Ok(decided) => decided,
        Err(refusal) => return respond_refused(entry, &refusal),
    };
    if !behaviour.first_byte_after.is_zero() {
        tokio::time::sleep(behaviour.first_byte_after).await;
    }
    match (behaviour.model, behaviour.status) {
        (_, Some(status)) => respond_status(entry, status, &behaviour),
        (DemoModel::Hang, None) => hang(entry).await,
        (_, None) => respond_chat(entry, &call, &behaviour),
    }
}

async fn read_whole(incoming: Incoming) -> Result<Bytes, Refusal> {
    match Limited::new(incoming, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large()),
        Err(_) => Err(Refusal::of_status(400)),
    }
}

type Decided = Result<(ChatCall, Behaviour), Refusal>;

/// The ledger's row, and what there is to answer.
fn open_row(
    demo: &Demo,
    headers: &HeaderMap,
    body: &Bytes,
    chat: ChatBody,
) -> Result<(Decided, Entry), Refusal> {
    let (model, stream, call) = match chat {
        ChatBody::Call(call) => (call.model.clone(), call.stream, Ok(call)),
        ChatBody::Invalid { model, refusal } => (model, false, Err(refusal)),
        ChatBody::NotAChat(refusal) => return Err(refusal),
    };
    let decided = demo.authorise(headers).and(call).and_then(|call| {
        let behaviour = Behaviour::parse(&call.model)?;
        Ok((call, behaviour))
    });
    let prompt_tokens = match &decided {
        Ok((call, behaviour)) if behaviour.status.is_none() => call.prompt_tokens,
        Ok(_) | Err(_) => 0,
    };
    let client_request_id = headers
        .get("x-client-request-id")
        .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let row = NewRow {
        client_request_id,
        model,
        stream,
        prompt_tokens,
    };
    match run_long(body.len(), || demo.ledger.begin(row, body)) {
        Ok(entry) => Ok((decided, entry)),
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be written");
            Err(Refusal::internal())
        }
    }
}

fn respond_chat(mut entry: Entry, call: &ChatCall, behaviour: &Behaviour) -> Answered {
    let answer = Answer::plan(entry.id(), entry.received_at().seconds(), call, behaviour);
    entry.set_status(200);
    if call.stream {
        let style = StreamStyle {
            crlf: behaviour.crlf,
            omit_done: behaviour.omit_done,
            usage_null: behaviour.usage_null,
        };
        let ending = answer.ending;
        let writer = StreamWriter::new(answer, style);
        let body = AnswerBody::stream(entry, writer, behaviour.gap, ending);
        return respond(200, EVENT_STREAM, body.in_chunks_of(behaviour.chunk_bytes));
    }
    let mut bytes = answer.unary();
    let body = match answer.ending {
        Ending::Whole => {
            let tokens = answer.completion_tokens();
            let piece = Piece {
                bytes,
                tokens,
                tells_usage: answer.tells_usage,
            };
            AnswerBody::whole(entry, piece, Outcome::Completed)
        }
        Ending::Cut => {
            let announced = bytes.len();
            bytes.truncate(announced / 2);
            let tokens = answer::count_tokens(&bytes);
            let piece = Piece {
                bytes,
                tokens,
                tells_usage: false,
            };
            AnswerBody::half(entry, piece, announced as u64)
        }
    };
    respond(200, JSON, body.in_chunks_of(behaviour.chunk_bytes))
}

fn respond_refused(mut entry: Entry, refusal: &Refusal) -> Answered {
    entry.set_status(refusal.status);
    let piece = Piece {
        bytes: refusal.body(),
        tokens: 0,
        tells_usage: false,
    };
    respond(
        refusal.status,
        JSON,
        AnswerBody::whole(entry, piece, Outcome::Error),
    )
}

fn respond_status(entry: Entry, status: u16, behaviour: &Behaviour) -> Answered {
    let mut response = respond_refused(entry, &Refusal::of_status(status));
    if let Some(seconds) = behaviour.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status < 400 {
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_static("/v1/models"));
    }
    response
}

/// Never answers: the caller's hanging up drops this, and with it the entry.
async fn hang(mut entry: Entry) -> Answered {
    entry.close_as_hung();
    std::future::pending().await
}

async fn list_ledger(demo: &Demo, query: Option<&str>) -> Answered {
    let (mut after, mut limit) = (0, DEFAULT_LIMIT);
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let parsed = pair.split_once('=').and_then(|(name, value)| {
            let value = value.parse::<u64>().ok()?;
            match name {
                "after" => after = value,
                "limit" => limit = usize::try_from(value).ok()?.clamp(1, MAX_LIMIT),
                _ => return None,
            }
            Some(())
        });
        if parsed.is_none() {
            let refusal = Refusal::invalid("query", "only after and limit are known, both numbers");
            return respond_json(refusal.status, refusal.body());
        }
    }
    let ledger = demo.ledger.clone();
    let page = tokio::task::spawn_blocking(move || ledger.page(after, limit)).await;
    match page
        .map_err(anyhow::Error::from)
        .and_then(|page| Ok(serde_json::to_vec(&page?)?))
    {
        Ok(page) => respond_json(200, page),
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be read");
            respond_json(500, Refusal::internal().body())
        }
    }
}

fn show_body(demo: &Demo, path: &str) -> Answered {
    let seq = path
        .strip_prefix("/_ledger/")
        .and_then(|rest| rest.strip_suffix("/body"));
    let body = seq
        .and_then(|seq| seq.parse().ok())
        .and_then(|seq| demo.ledger.body(seq));
    match body {
        Some(body) => respond(
            200,
            "application/octet-stream",
            AnswerBody::plain(body.to_vec()),
        ),
        None => respond_json(404, Refusal::no_route(404, &Method::GET, path).body()),
    }
}

/// Keeps a large body's parsing and hashing from holding up the other calls of this worker.
fn run_long<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let is_multi_thread = || {
        let flavour = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        flavour.is_ok_and(|flavour| flavour == tokio::runtime::RuntimeFlavor::MultiThread)
    };
    if bytes > LONG_BODY && is_multi_thread() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

fn respond_json(status: u16, bytes: Vec<u8>) -> Answered {
    respond(status, JSON, AnswerBody::plain(bytes))
}

fn respond(status: u16, content_type: &'static str, body: AnswerBody) -> Answered {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type == EVENT_STREAM {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const DEFAULT_LIMIT: usize = 1_000;
const MAX_LIMIT: usize = 10_000;
/// More than any gateway passes on (10 MiB).
const MAX_BODY: usize = 32 * 1024 * 1024;
const LONG_BODY: usize = 128 * 1024;
