//! Words a number of seconds.

/// A number of seconds as people write it: `90s`, `10m`, `1h30m`.
pub(super) fn span(seconds: u64) -> String {
    let mut text = String::new();
    let mut left = seconds;
    for (unit, name) in [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
        let count = left / unit;
        left %= unit;
        if count > 0 || unit == 1 && text.is_empty() {
            text.push_str(&count.to_string());
            text.push(name);
        }
    }
    text
}
