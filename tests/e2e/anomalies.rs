//! What is not usual is told: by what an earlier observer has learned, which is on the disk.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use support::{
    admin::{self, value},
    daemon::Daemon,
    http1::Client,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::until,
    world::{GOOD_V4, World},
};

/// Two minutes must be over on the clock, and a little more.
const MINUTES: Duration = Duration::from_secs(200);

/// Four weeks in which one request a minute was answered 404, at every hour.
fn learned() -> Value {
    let hour = json!([1.0, 0.0, 4]);
    let model = json!({
        "week": vec![hour.clone(); 168], "day": vec![hour.clone(); 24], "all": hour, "hour": null, "minutes": [],
    });
    json!({
        "version": 1,
        "series": [[[{ "Route": "(none)" }, "Failures"], { "model": model }]],
        "current": [],
        "past": [],
    })
}

/// A file as the observer writes it.
fn kept(content: &Value) -> Vec<u8> {
    let content = content.to_string().into_bytes();
    let mut file = b"gwkeep01".to_vec();
    file.extend(2_u64.to_le_bytes());
    file.extend((content.len() as u64).to_le_bytes());
    file.extend(crc32(&content).to_le_bytes());
    file.extend(content);
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn an_anomaly_is_told_in_a_sentence() {
    if !report::may_run("anomalies") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let folder = world.folder.join("state/observer");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("usual.0"), kept(&learned())).unwrap();
    let more = format!(
        "{}[anomalies]\nminutes = 1\n[[alert]]\nname = \"mine\"\nmetric = \"gateway_usual_ratio\"\ncondition = \"> 3\"\n",
        admin::TABLE
    );
    let daemon = Daemon::start(&world, &Settings { interfaces: Vec::new(), more, ..Settings::default() });
    let report = daemon.done(&["anomalies"]);
    assert_eq!(
        (&report["is_on"], &report["series"], &report["list"]),
        (&json!(true), &json!(1), &json!([])),
        "{report}"
    );
    let client = Client::new(&world, GOOD_V4);
    let told = until("the anomaly", MINUTES, || {
        for _ in 0..20 {
            client.get("/nowhere", "").ok()?;
        }
        daemon.done(&["anomalies"])["list"].as_array()?.iter().find(|one| one["measure"] == "failures").cloned()
    });
    let sentence = told["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("(none): ") && sentence.contains(" failures a minute, usually 0 to 3 on "),
        "{sentence}"
    );
    until("its alerts", MINUTES, || {
        let listed = daemon.done(&["alert", "list"]);
        let named = |name: &str| listed["alerts"].as_array()?.iter().find(|alert| alert["name"] == name).cloned();
        let anomaly = named("anomaly")?;
        assert_eq!((&anomaly["summary"], &anomaly["labels"]["of"]), (&json!(sentence), &json!("(none)")));
        named("mine")
    });
    let text = admin::get(&world, "/metrics", "").unwrap().text();
    assert_eq!(value(&text, "gateway_anomalies{of=\"(none)\",measure=\"failures\"}"), Some(1.0));
    // The rest is new, and being learned: nothing is said of it.
    let report = daemon.done(&["anomalies"]);
    assert_eq!(report["list"].as_array().unwrap().len(), 1, "{report}");
    assert!(report["learning"].as_u64().unwrap() > 1, "{report}");
}
