//! Running trajectories beside the checker, to see the state that they leave.

use std::collections::BTreeMap;

use anyhow::Result;
use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::checker::is_empty_step;
use parl_mt::env::bfcl::{ApiClass, BfclContext, BfclWorld};
use parl_mt::python::text;
use parl_mt::task::TaskSpec;

/// A trajectory's results, a list per turn, and the world after it.
pub fn executed(task: &TaskSpec, turns: &Trajectory, context: &BfclContext) -> Result<(Vec<Vec<String>>, BfclWorld)> {
    let mut world = BfclWorld::new(task, context)?;
    let execution = turns
        .iter()
        .map(|steps| {
            let steps = steps.iter().filter(|calls| !is_empty_step(calls));
            steps.flatten().map(|call| world.execute(call)).collect()
        })
        .collect();
    Ok((execution, world))
}

/// The `repr` of each attribute that the checker compares.
pub fn state_reprs(instance: &dyn ApiClass) -> BTreeMap<String, String> {
    instance.state().iter().map(|(name, value)| (text::str(name), text::repr(value))).collect()
}
