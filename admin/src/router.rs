//! Every route: method, path, permission, handler, and what `OpenAPI` says of it. The axum router and the `OpenAPI` document
//! are both made from this table, so that neither can have a route that the other lacks, nor one without a permission.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::{MethodFilter, on},
};
use http::Method;
use utoipa::ToSchema;

use crate::{
    app::App,
    auth::Access,
    call::{self, Call},
    error::{ApiError, Code},
    openapi::{Described, SchemaOf},
    reply::Reply,
};

pub(crate) mod table;

pub(crate) use self::table::table;

type Answering = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) described: Described,
    handler: Handler,
}

impl Route {
    pub(crate) fn new<F, R>(
        method: Method,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, ApiError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        Self {
            method,
            path,
            access,
            described: Described::new(summary),
            handler,
        }
    }

    /// Its body.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Self {
        self.described.body = Some(SchemaOf::of::<T>());
        self
    }

    /// What it answers when all went well.
    pub(crate) fn gives<T: ToSchema>(mut self) -> Self {
        self.described.reply = Some(SchemaOf::of::<T>());
        self
    }

    pub(crate) fn lists<T: ToSchema>(mut self, parameters: &[&'static str]) -> Self {
        self.described.is_list = true;
        self.described.parameters = parameters.to_vec();
        self.gives::<T>()
    }

    /// With query parameters of its own.
    pub(crate) fn asks(mut self, parameters: &[&'static str]) -> Self {
        self.described.parameters = parameters.to_vec();
        self
    }

    /// It changes something: receipts, reasons, and the status when it worked.
    pub(crate) fn changes(mut self, status: u16) -> Self {
        self.described.changes = true;
        self.described.status = status;
        self
    }

    /// With `If-Match`, which must be there or may be.
    pub(crate) fn versioned(mut self, required: bool) -> Self {
        self.described.if_match = Some(required);
        self
    }
}

/// The router: nothing but the table, and problem answers where it ends.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in table() {
        let Ok(filter) = MethodFilter::try_from(route.method.clone()) else {
            tracing::error!(method = %route.method, path = route.path, "a route has an unusable method");
            continue;
        };
        let (access, handler) = (route.access, route.handler);
        let serve = move |State(app): State<App>, request: Request| {
            call::serve(app, access, Arc::clone(&handler), request)
        };
        router = router.route(route.path, on(filter, serve));
    }
    router
        .fallback(|request: Request| nowhere(request, Code::NotFound))
        .method_not_allowed_fallback(|request: Request| nowhere(request, Code::MethodNotAllowed))
        .with_state(app)
}

async fn nowhere(request: Request, code: Code) -> Response {
    let request_id = call::request_id(request.headers());
    let mut response = ApiError::new(code, code.title()).into_reply(&request_id);
    call::finish(response.headers_mut(), &request_id);
    std::future::ready(response).await
}

#[cfg(test)]
mod tests;
