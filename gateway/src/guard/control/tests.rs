//! Commands and answers, spoiled: read as what they still say, or refused.

use super::*;

mod reading;

/// How often each line is spoiled.
const SPOILED: usize = 3_000;

const LINES: [&str; 16] = [
    r#"{"ask":"status"}"#,
    r#"{"ask":"block_add","source":"192.0.2.0/24","seconds":60,"reason":"by hand","shadow":false,"confirm":9,"force":true}"#,
    r#"{"ask":"block_import_chunk","id":1,"entries":[[1,"192.0.2.1",60,"why"],[2,"2001:db8::/32",null,null]]}"#,
    r#"{"ask":"block_export","feed":"drop","cursor":{"feed":1,"after":"192.0.2.1"}}"#,
    r#"{"ask":"allow_add","source":"2001:db8::/48","reason":"office","yes":true}"#,
    r#"{"ask":"why","address":"::ffff:192.0.2.1"}"#,
    r#"{"ask":"watch","decisions":true,"packets":false}"#,
    r#"{"ask":"admin_token_new","name":"ada","roles":["view","block"],"seconds":3600}"#,
    r#"{"answer":"admin_token","name":"ada","token":"gwat_x","roles":["view"],"expires":"2026-01-01T00:00:00Z"}"#,
    r#"{"ask":"key_new","name":"deploy","roles":["reader"],"seconds":60,"from":["192.0.2.0/24"],"hosts":["a.example"]}"#,
    r#"{"ask":"key_import","keys":[{"name":"a","sha256":"00","roles":["reader"],"expires":7}]}"#,
    r#"{"ask":"token_revoke","what":{"issuer":"jwt","id":"a"},"seconds":60,"reason":"stolen"}"#,
    r#"{"answer":"key_made","id":"0000000000z","name":"a","key":"gwk_","expires":"2026-01-31T12:00:00.000Z"}"#,
    r#"{"answer":"done","message":"done","changed":1}"#,
    r#"{"answer":"refused","code":"denied","message":"no"}"#,
    r#"{"answer":"whoami","actor":"operator:7","user":"eve","roles":["view"],"grants":[{"role":"view","by":"group a"}],"missing":[]}"#,
];

/// What stands for something in JSON, and what breaks it.
const PIECES: [&str; 12] = ["\"", "{", "}", "[", "]", ",", ":", "\\u0000", "-1", "1e400", "null", "\u{202e}"];

#[test]
fn spoiled_lines_are_read_safely() {
    // A linear congruential generator (Knuth's MMIX): the same numbers in every run.
    let mut state: u64 = 0x5eed_0f0f_c0ff_ee05;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % end.max(1)
    };
    for line in LINES {
        assert!(
            serde_json::from_str::<ControlRequest>(line).is_ok() || serde_json::from_str::<ControlAnswer>(line).is_ok(),
            "{line}"
        );
        for _ in 0..SPOILED {
            let mut spoiled = line.as_bytes().to_vec();
            for _ in 0..=below(3) {
                let at = below(spoiled.len());
                match below(4) {
                    0 => spoiled.truncate(at),
                    1 if !spoiled.is_empty() => spoiled[at] = below(256).to_le_bytes()[0],
                    2 => drop(spoiled.splice(at..at, PIECES[below(PIECES.len())].bytes())),
                    _ => spoiled.extend_from_within(at..),
                }
            }
            assert_eq!(reading::fault(&spoiled), None, "{}", String::from_utf8_lossy(&spoiled));
        }
    }
}
