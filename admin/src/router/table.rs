//! The table itself, resource by resource.

mod catalogue;

use http::Method;
use odock_events::payload::{
    budget::BudgetBody,
    grant::GrantBody,
    key::KeyBody,
    model::ModelBody,
    organisation::OrganisationBody,
    overlay::OverlayBody,
    provider::{ProviderBody, ProviderKeyBody},
    quota::QuotaBody,
    team::{MembershipBody, TeamBody},
    user::UserBody,
};
use utoipa::ToSchema;

use super::Route;
use crate::{
    auth::{Access, Action, Permission, Resource},
    openapi::shapes::{
        AccountWindowView, Deleted, EncryptionKey, EventView, ExplanationView, Health,
        ProjectionView, SummaryView, UsageView,
    },
    queries::rotation::RotationView,
    routes::{
        command,
        crud::{self, Changeable},
        event, explanation, grant, key, probe, provider_key, reclaim, rule, status, usage, user,
    },
    shape::{
        budget::BudgetView,
        grant::{GrantBatch, GrantBatchView, GrantView},
        key::{KeyRotate, KeyView},
        membership::MembershipView,
        model::ModelView,
        organisation::OrganisationView,
        overlay::OverlayView,
        provider::ProviderView,
        provider_key::ProviderKeyView,
        quota::QuotaView,
        team::TeamView,
        user::UserView,
    },
};

macro_rules! below_organisation {
    ($path:literal) => {
        concat!("/api/v1/organisations/{organisation_id}/", $path)
    };
}

/// Every route there is.
pub(crate) fn table() -> Vec<Route> {
    let mut routes = probes();
    routes.extend(entities());
    routes.extend(grants());
    routes.extend(catalogue::routes());
    routes.extend(actions());
    routes.extend(records());
    routes
}

fn read(resource: Resource) -> Access {
    Access::Needs(Permission {
        action: Action::Read,
        resource,
    })
}

fn write(resource: Resource) -> Access {
    Access::Needs(Permission {
        action: Action::Write,
        resource,
    })
}

fn probes() -> Vec<Route> {
    let get = Method::GET;
    vec![
        Route::new(
            get.clone(),
            "/health",
            Access::Public,
            "The process answers",
            probe::health,
        )
        .gives::<Health>(),
        Route::new(
            get.clone(),
            "/ready",
            Access::Public,
            "Changes can be taken",
            probe::ready,
        )
        .gives::<Health>(),
        Route::new(
            get.clone(),
            "/api/v1/openapi.json",
            read(Resource::Api),
            "This document",
            probe::openapi,
        ),
        Route::new(
            get.clone(),
            "/api/v1/encryption-key",
            read(Resource::Api),
            "The public key that provider keys are sealed with",
            probe::encryption_key,
        )
        .gives::<EncryptionKey>(),
        Route::new(
            get.clone(),
            "/api/v1/status",
            read(Resource::Status),
            "How far everybody is",
            status::get,
        )
        .gives::<status::StatusView>(),
        Route::new(
            Method::POST,
            "/api/v1/status/reclaim",
            write(Resource::Status),
            "Call back what gateways hold and do not use",
            reclaim::reclaim,
        )
        .gives::<reclaim::ReclaimView>(),
        Route::new(
            get,
            "/api/v1/commands/{id}",
            read(Resource::Command),
            "What became of a command",
            command::get,
        )
        .gives::<command::CommandView>(),
    ]
}

/// Where an entity is and what guards it.
struct Paths {
    collection: &'static str,
    item: &'static str,
    resource: Resource,
}

macro_rules! paths {
    ($name:literal, $resource:ident) => {
        Paths {
            collection: below_organisation!($name),
            item: concat!("/api/v1/organisations/{organisation_id}/", $name, "/{id}"),
            resource: Resource::$resource,
        }
    };
}

fn entities() -> Vec<Route> {
    let organisations = Paths {
        collection: "/api/v1/organisations",
        item: "/api/v1/organisations/{organisation_id}",
        resource: Resource::Organisation,
    };
    let mut routes = five::<OrganisationBody, OrganisationView>(&organisations);
    routes.extend(five::<TeamBody, TeamView>(&paths!("teams", Team)));
    routes.extend(users());
    routes.extend(five::<MembershipBody, MembershipView>(&paths!(
        "memberships",
        Membership
    )));
    routes.extend(five::<ProviderBody, ProviderView>(&paths!(
        "providers",
        Provider
    )));
    routes.extend(five::<ProviderKeyBody, ProviderKeyView>(&paths!(
        "provider-keys",
        ProviderKey
    )));
    routes.extend(five::<ModelBody, ModelView>(&paths!("models", Model)));
    routes.extend(five::<KeyBody, KeyView>(&paths!("keys", Key)));
    routes.extend(five::<BudgetBody, BudgetView>(&paths!("budgets", Budget)));
    routes.extend(five::<QuotaBody, QuotaView>(&paths!("quotas", Quota)));
    routes.extend(accounts::<BudgetBody>(
        Resource::Budget,
        below_organisation!("budgets/{id}/windows"),
        below_organisation!("budgets/{id}/projection"),
    ));
    routes.extend(accounts::<QuotaBody>(
        Resource::Quota,
        below_organisation!("quotas/{id}/windows"),
        below_organisation!("quotas/{id}/projection"),
    ));
    routes.extend(five::<OverlayBody, OverlayView>(&paths!(
        "overlays", Overlay
    )));
    routes
}

/// What has become of a rule.
fn accounts<B: crud::Resource>(
    resource: Resource,
    windows: &'static str,
    projection: &'static str,
) -> Vec<Route> {
    let filters: Vec<&str> = rule::WINDOWS
        .filters
        .iter()
        .map(|filter| filter.name)
        .collect();
    vec![
        Route::new(
            Method::GET,
            windows,
            read(resource),
            "Its windows that have seen something",
            rule::windows::<B>,
        )
        .lists::<AccountWindowView>(&filters),
        Route::new(
            Method::GET,
            projection,
            read(resource),
            "What the window of now comes to at this pace",
            rule::projection::<B>,
        )
        .gives::<ProjectionView>(),
    ]
}

/// Create, list, read, change and delete.
fn five<B, V>(paths: &Paths) -> Vec<Route>
where
    B: Changeable<Create: ToSchema, Patch: ToSchema>,
    V: ToSchema,
{
    let mut routes = four::<B, V>(paths);
    routes.push(
        Route::new(
            Method::GET,
            paths.collection,
            read(paths.resource),
            "List",
            crud::list::<B>,
        )
        .lists::<V>(&parameters::<B>()),
    );
    routes
}

fn four<B, V>(paths: &Paths) -> Vec<Route>
where
    B: Changeable<Create: ToSchema, Patch: ToSchema>,
    V: ToSchema,
{
    let mut routes = made_and_deleted::<B, V>(paths);
    routes.push(
        Route::new(
            Method::PATCH,
            paths.item,
            write(paths.resource),
            "Change",
            crud::update::<B>,
        )
        .takes::<B::Patch>()
        .gives::<V>()
        .changes(200)
        .versioned(true),
    );
    routes
}

fn made_and_deleted<B, V>(paths: &Paths) -> Vec<Route>
where
    B: crud::Resource<Create: ToSchema>,
    V: ToSchema,
{
    let (reads, writes) = (read(paths.resource), write(paths.resource));
    vec![
        Route::new(
            Method::POST,
            paths.collection,
            writes,
            "Create",
            crud::create::<B>,
        )
        .takes::<B::Create>()
        .gives::<V>()
        .changes(201),
        Route::new(Method::GET, paths.item, reads, "Read", crud::get::<B>).gives::<V>(),
        Route::new(
            Method::DELETE,
            paths.item,
            writes,
            "Delete",
            crud::delete::<B>,
        )
        .gives::<Deleted>()
        .changes(200)
        .versioned(true),
    ]
}

fn users() -> Vec<Route> {
    let paths = paths!("users", User);
    let mut routes = four::<UserBody, UserView>(&paths);
    let mut parameters = parameters::<UserBody>();
    parameters.push("email");
    routes.push(
        Route::new(
            Method::GET,
            paths.collection,
            read(paths.resource),
            "List",
            user::list,
        )
        .lists::<UserView>(&parameters),
    );
    routes
}

fn grants() -> Vec<Route> {
    let paths = paths!("grants", Grant);
    let mut routes = made_and_deleted::<GrantBody, GrantView>(&paths);
    routes.push(
        Route::new(
            Method::GET,
            paths.collection,
            read(paths.resource),
            "List",
            crud::list::<GrantBody>,
        )
        .lists::<GrantView>(&parameters::<GrantBody>()),
    );
    routes.push(
        Route::new(
            Method::POST,
            below_organisation!("grants/batch"),
            write(paths.resource),
            "Create and delete many, all or nothing",
            grant::batch,
        )
        .takes::<GrantBatch>()
        .gives::<GrantBatchView>()
        .changes(200),
    );
    routes
}

fn actions() -> Vec<Route> {
    let keys = write(Resource::Key);
    let action = |path, access, summary, handler: fn(crate::call::Call) -> Acting| {
        Route::new(Method::POST, path, access, summary, handler)
            .changes(200)
            .versioned(false)
    };
    vec![
        action(
            below_organisation!("provider-keys/{id}/revoke"),
            write(Resource::ProviderKey),
            "Revoke for good",
            |call| Box::pin(provider_key::revoke(call)),
        )
        .gives::<ProviderKeyView>(),
        action(
            below_organisation!("keys/{id}/revoke"),
            keys,
            "Revoke",
            |call| Box::pin(key::revoke(call)),
        )
        .gives::<KeyView>(),
        action(
            below_organisation!("keys/{id}/unrevoke"),
            keys,
            "Take a revocation back",
            |call| Box::pin(key::unrevoke(call)),
        )
        .gives::<KeyView>(),
        action(
            below_organisation!("keys/{id}/rotate"),
            keys,
            "Give a new secret",
            |call| Box::pin(key::rotate(call)),
        )
        .takes::<KeyRotate>()
        .gives::<KeyView>(),
        Route::new(
            Method::GET,
            below_organisation!("keys/{id}/rotations"),
            read(Resource::Key),
            "The history of rotations",
            key::rotations,
        )
        .lists::<RotationView>(&[]),
    ]
}

type Acting = std::pin::Pin<
    Box<dyn Future<Output = Result<crate::reply::Reply, crate::error::ApiError>> + Send>,
>;

fn records() -> Vec<Route> {
    let usages = read(Resource::Usage);
    let filters: Vec<&str> = usage::LIST
        .filters
        .iter()
        .map(|filter| filter.name)
        .collect();
    let of_events: Vec<&str> = event::LIST
        .filters
        .iter()
        .map(|filter| filter.name)
        .collect();
    vec![
        Route::new(
            Method::GET,
            below_organisation!("usage"),
            usages,
            "Records of calls",
            usage::list,
        )
        .lists::<UsageView>(&filters),
        Route::new(
            Method::GET,
            below_organisation!("usage/summary"),
            usages,
            "Sums over calls by day, key or model",
            usage::summary,
        )
        .gives::<SummaryView>()
        .asks(&["group_by", "from", "to"]),
        Route::new(
            Method::GET,
            below_organisation!("usage/{id}"),
            usages,
            "One record",
            usage::get,
        )
        .gives::<UsageView>(),
        Route::new(
            Method::GET,
            below_organisation!("requests/{request_id}/explanation"),
            usages,
            "Why a call was decided as it was, by request id or usage id",
            explanation::get,
        )
        .gives::<ExplanationView>(),
        Route::new(
            Method::GET,
            below_organisation!("events"),
            read(Resource::Event),
            "What happened",
            event::list,
        )
        .lists::<EventView>(&of_events),
    ]
}

/// The names of a list's filters, `q` among them where it is.
fn parameters<B: crud::Resource>() -> Vec<&'static str> {
    let filters = B::LIST.filters.iter().map(|filter| filter.name);
    filters.chain(B::LIST.searchable.then_some("q")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_there_once_and_only_probes_are_public() {
        let mut seen = BTreeSet::new();
        for route in table() {
            assert!(
                seen.insert((route.method.to_string(), route.path)),
                "{} twice",
                route.path
            );
            let public = route.access == Access::Public;
            assert_eq!(
                public,
                matches!(route.path, "/health" | "/ready"),
                "{}",
                route.path
            );
            if let Access::Needs(permission) = route.access {
                let reads = route.method == Method::GET;
                assert_eq!(
                    permission.action == Action::Read,
                    reads,
                    "{} {}",
                    route.method,
                    route.path
                );
            }
        }
        assert!(seen.len() > 50, "{}", seen.len());
    }
}
