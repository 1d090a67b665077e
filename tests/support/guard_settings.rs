//! The settings of a guard, for whoever loads the kernel program without a daemon.

use std::{path::PathBuf, time::Duration};

use gateway::settings::{
    anomalies, audit,
    guard::{AttachMode, Compile, PacketScope, Safety, Settings},
    operators::ControlMode,
    revocation,
};

/// On no interface, with the defaults of a configuration and no limits. Its pins are in `pins`.
#[must_use]
pub fn guard_settings(pins: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        mode: AttachMode::Auto,
        scope: PacketScope::Listeners,
        state_dir: PathBuf::new(),
        control_socket: PathBuf::new(),
        control_group: None,
        control_mode: ControlMode::Owner,
        operators: Vec::new(),
        pin_dir: PathBuf::from(pins),
        allow: Vec::new(),
        trusted_proxies: Vec::new(),
        ipv6_prefix: 64,
        widest_ipv4: 16,
        widest_ipv6: 32,
        max_bans: 1_000_000,
        max_rules: 131_072,
        max_sources: 131_072,
        max_bans_per_minute: 60,
        compile: Compile::default(),
        pass_malformed: false,
        trace: None,
        packet_limit: None,
        byte_limit: None,
        syn_limit: None,
        total_limit: None,
        syn_cookies: None,
        default_ban: Duration::from_secs(600),
        safety: Safety::default(),
        feeds: Vec::new(),
        crowdsec: None,
        revocation: revocation::Settings::default(),
        audit: audit::Settings::default(),
        clamps: Vec::new(),
        plan_budgets: Vec::new(),
        anomalies: anomalies::AnomalyActions::default(),
        shadow_limits: Vec::new(),
        shadow_routes: Vec::new(),
    }
}
