//! What the test suites of parl-mt share: seeded mutations of trajectories, the official Python package as a peer, and
//! where BFCL's data lies.

pub mod compare;
pub mod mutate;
pub mod peer;
pub mod random;
pub mod scenario;
mod skipping;
pub mod vectors;

pub use skipping::skip;

use parl_mt::env::bfcl::BfclData;

/// BFCL's data: the wheel that `PARL_BFCL_WHEEL` names, or the package of the peer that the environment names.
///
/// The error says what is missing, for people.
pub fn find_data() -> Result<BfclData, String> {
    if let Some(wheel) = std::env::var_os("PARL_BFCL_WHEEL").filter(|value| !value.is_empty()) {
        let bytes = std::fs::read(&wheel).map_err(|error| format!("{}: {error}", wheel.display()))?;
        return BfclData::from_wheel(&bytes).map_err(|error| error.to_string());
    }
    let peer =
        peer::Peer::from_environment().map_err(|reason| format!("PARL_BFCL_WHEEL names no wheel, and {reason}"))?;
    let session = peer.start().map_err(|error| format!("{error:#}"))?;
    session.header().data().map_err(|error| format!("{error:#}"))
}
