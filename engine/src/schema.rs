//! JSON Schemas of everything that is written to files, for readers in other languages.

use schemars::schema_for;
use serde_json::{Map, Value as Json};

/// The schemas by the name of their type.
pub fn schemas() -> Json {
    let all = [
        ("Trace", schema_for!(crate::trace::Trace)),
        ("TaskSpec", schema_for!(crate::task::TaskSpec)),
        ("Conversation", schema_for!(crate::message::Conversation)),
        ("EpisodeEvent", schema_for!(crate::event::EpisodeEvent)),
        ("TrajectoryLine", schema_for!(crate::score::TrajectoryLine)),
        ("ScoreLine", schema_for!(crate::score::ScoreLine)),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema.to_value())).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    /// A change here is a change of a file format: raise `TRACE_VERSION` if a reader of the old one would misread it.
    #[test]
    fn file_formats_are_as_recorded() {
        insta::assert_json_snapshot!(super::schemas());
    }
}
