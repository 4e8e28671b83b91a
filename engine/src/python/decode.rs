//! Placeholder until the decoder lands.
/// Decodes a step.
pub fn decode_step(_step: &serde_json::Value) -> Result<Vec<String>, String> {
    Err("placeholder".into())
}
