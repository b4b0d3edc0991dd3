//! Version 0 of models whose first weights are given: states that a client has put into the model
//! store before it submits the run. The other models' weights are drawn where they are first trained.

use arrowhop_catalog::{Catalog, CommitOutcome};
use arrowhop_types::{Digest, ModelId, Problems, RunId, RunSpec};

use crate::SupervisorError;
use crate::actors::archive::Store;

/// Refuses states of models that the run has not, or that were not put.
pub(crate) fn check_initial(
    spec: &RunSpec,
    initial: &[(ModelId, Digest)],
    store: &Store,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    for (i, (model, digest)) in initial.iter().enumerate() {
        let place = || format!("initial state of model {model}");
        if spec.config(*model).is_none() {
            problems.push(place(), format!("the run has models 1 to {}", spec.configs.len()));
        }
        if initial[..i].iter().any(|(other, _)| other == model) {
            problems.push(place(), "is given twice");
        }
        if !store.is_offered(*digest) {
            let text = format!("{} is not in the model store; put it again", digest.short());
            problems.push(place(), text);
        }
    }
    problems.or(())
}

/// Makes the states that wait the models' version 0, in the store and in the catalog.
pub(crate) fn adopt(
    catalog: &mut Catalog,
    run: RunId,
    initial: &[(ModelId, Digest)],
    store: &Store,
) -> Result<(), SupervisorError> {
    let file = |source| SupervisorError::File { path: store.directory().to_owned(), source };
    for (model, digest) in initial {
        let checkpoint = store.adopt(run, *model, *digest).map_err(file)?;
        let outcome = catalog.checkpoint(run, *model, &checkpoint)?;
        assert_eq!(outcome, CommitOutcome::Committed, "a run just submitted is at version 0");
    }
    initial.iter().try_for_each(|(_, digest)| store.withdraw(*digest)).map_err(file)
}
