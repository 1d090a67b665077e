//! The program that is in force while somebody traces packets: the same verdicts, and lines about some of them.

use std::collections::HashSet;

use gateway_common::trace::Trace;
use support::frame::Frame;

use crate::{
    budgets, form, lane, product,
    program::{FOREVER, program, while_traced},
    verdicts,
};

const SOURCE: &str = "203.0.113.7";
const OTHER: &str = "2001:db8:1:2::7";

/// Runs tests of the untraced program with the traced one.
macro_rules! again {
    ($($test:path),* $(,)?) => {
        while_traced(|| {
            $(
                eprintln!("{}", stringify!($test));
                $test();
            )*
        })
    };
}

#[test]
fn every_form_has_the_same_verdict() {
    again![
        form::x01_ipv4_headers,
        form::x01_malformed_may_pass_but_not_from_a_banned_source,
        form::x01_malformed_to_a_port_that_is_not_guarded,
        form::x01_joined_packets_are_longer_than_their_headers_can_say,
        form::x02_fragments,
        form::x03_vlan_tags,
        form::x04_ipv6_extension_headers,
        form::x05_every_truncation_has_a_verdict,
        form::what_no_list_applies_to,
        product::every_verdict_in_every_encapsulation,
        product::neighbours_are_found_under_every_link,
    ];
}

#[test]
fn lists_and_budgets_mean_the_same() {
    again![
        verdicts::bans_end_and_shadows_pass,
        verdicts::an_ipv6_ban_is_of_the_network,
        verdicts::rules_of_prefixes,
        verdicts::scope_listeners_and_host,
        verdicts::entries_count_what_they_drop,
        verdicts::allowed_sources_and_shadows_and_the_budget,
        verdicts::nanoseconds_for_each_packet,
        lane::d05_the_budget_of_all_is_one_for_everybody,
        lane::connections_that_proved_themselves_go_on_beyond_the_budget_of_all,
        lane::a_source_with_a_budget_of_its_own,
        budgets::each_budget_is_kept_in_every_form_of_a_packet,
        budgets::lists_come_before_budgets_and_a_shadow_hides_none,
        budgets::syns_and_bytes_weigh_so_that_few_packets_reach_their_limits,
        budgets::an_entry_that_was_evicted_comes_back_empty,
        budgets::what_is_taken_in_advance_is_taken_once,
        budgets::events_are_few_and_name_source_and_reason,
        budgets::beyond_the_global_budget_a_syn_is_answered_with_a_cookie,
    ];
}

#[test]
fn d05_lines_are_few_and_of_whom_they_were_asked_for() {
    while_traced(|| {
        let mut program = program!();
        program.ban(SOURCE, 1, FOREVER);
        let (banned, other) = (Frame::tcp(SOURCE, 443).bytes(), Frame::tcp(OTHER, 443).bytes());
        let source = |text: &str| Some(text.parse().unwrap());
        // Who is traced, whether drops alone, and of whose packets there are lines.
        for (id, who, drops_only, expect) in [
            (2, None, false, [true, true]),
            (3, None, true, [true, false]),
            (4, source(SOURCE), false, [true, false]),
            (5, source("203.0.113.0/24"), true, [true, false]),
            (6, source(OTHER), false, [false, true]),
            (7, source(OTHER), true, [false, false]),
            (8, source("203.0.113.8"), false, [false, false]),
            (0, None, false, [false, false]),
        ] {
            program.trace(0, Trace::new(id, who, drops_only));
            for (frame, expect) in [(&banned, expect[0]), (&other, expect[1])] {
                program.tell_anew();
                program.run(frame, 10_000);
                program.run(frame, 1);
                let lines = program.lines().len();
                assert_eq!(lines > 0, expect, "trace {id} of {who:?}: {lines} lines");
                assert!(lines < 5, "{lines} lines about a flood");
            }
        }
        // Each of several traces has lines of its own.
        program.trace(0, Trace::new(20, source(SOURCE), false));
        program.trace(7, Trace::new(21, source("203.0.113.0/24"), true));
        program.tell_anew();
        program.run(&banned, 1);
        let lines: HashSet<Vec<u8>> = program.lines().into_iter().collect();
        assert_eq!(lines.len(), 2);
    });
}
