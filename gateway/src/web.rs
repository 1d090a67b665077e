//! What HTTP has, as text: paths, URLs, values of headers, the names of a request in logs and traces.

pub mod header_names;
pub mod header_values;
pub mod path;
pub mod request_id;
pub(crate) mod trace_context;
pub mod url;
