//! Records what happened: the access log.
