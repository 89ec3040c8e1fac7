//! Routes of the price catalogue and of what organisations take from it.

use http::Method;

use super::{read, write};
use crate::{
    auth::Resource,
    router::Route,
    routes::catalogue::{self, FILTERS, ORGANISATION_FILTERS},
    shape::catalogue::{EntryView, ModelBatchView, ModelDiff, ModelImport, PricingUpdate},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/api/v1/catalogue/models",
            read(Resource::Api),
            "Known models and their list prices",
            catalogue::list,
        )
        .lists::<EntryView>(FILTERS),
        Route::new(
            Method::GET,
            "/api/v1/catalogue/models/{id}",
            read(Resource::Api),
            "One entry; the slash of its id as %2F",
            catalogue::get,
        )
        .gives::<EntryView>(),
        Route::new(
            Method::GET,
            "/api/v1/organisations/{organisation_id}/models/catalogue",
            read(Resource::Model),
            "The catalogue beside what the organisation has of it",
            catalogue::list_for,
        )
        .lists::<EntryView>(ORGANISATION_FILTERS),
        Route::new(
            Method::POST,
            "/api/v1/organisations/{organisation_id}/models/import",
            write(Resource::Model),
            "Make models of entries of the catalogue, all or none",
            catalogue::import,
        )
        .takes::<ModelImport>()
        .gives::<ModelBatchView>()
        .changes(200),
        Route::new(
            Method::POST,
            "/api/v1/organisations/{organisation_id}/models/update-pricing",
            write(Resource::Model),
            "Bring prices to the catalogue's; with dry_run only say what would change",
            catalogue::update_pricing,
        )
        .takes::<PricingUpdate>()
        .gives::<ModelBatchView>()
        .changes(200),
        Route::new(
            Method::GET,
            "/api/v1/organisations/{organisation_id}/models/{id}/pricing-diff",
            read(Resource::Model),
            "The price in force against the catalogue's",
            catalogue::diff,
        )
        .gives::<ModelDiff>(),
    ]
}
