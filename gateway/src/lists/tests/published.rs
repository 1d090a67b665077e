//! Ranges as CDNs and clouds publish them: with each address of both families, and of services only those that are wanted.

use super::*;

#[track_caller]
fn check(file: &str, services: &[&str], expect: &[&str]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ranges/").to_owned() + file;
    let bytes = std::fs::read(path).unwrap();
    let services: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
    let mut told = Vec::new();
    let read = read_services(&bytes, None, &services, |_, listed| {
        told.push(listed.map_or_else(|message| format!("! {message}"), |listed| listed.source.to_string()));
    });
    if let Err(unreadable) = read {
        told.push(unreadable.to_string());
    }
    told.sort_unstable();
    assert_eq!(told, expect, "{file}");
}

#[test]
fn ranges_of_clouds() {
    check("cloudflare-ips-v4.txt", &[], &["192.0.2.0/24", "198.51.100.0/24"]);
    check("cloudflare.json", &[], &["192.0.2.0/24", "198.51.100.0/24", "2001:db8:cb00::/48"]);
    check("fastly.json", &[], &["192.0.2.0/24", "2001:db8:4e40::/48", "2001:db8:4e42::/48", "203.0.113.0/25"]);
    check("cloudfront.json", &[], &["192.0.2.0/25", "198.51.100.64/26", "203.0.113.0/24"]);
    check("google-cloud.json", &[], &["192.0.2.0/24", "2001:db8:1900::/44"]);
    check("google-cloud.json", &["Google Cloud"], &["192.0.2.0/24", "2001:db8:1900::/44"]);
}

#[test]
fn one_service_of_a_cloud() {
    let aws = "aws-ip-ranges.json";
    check(aws, &["ROUTE53_HEALTHCHECKS"], &["192.0.2.0/26", "192.0.2.64/26", "2001:db8:5e::/56"]);
    check(aws, &["CLOUDFRONT", "EC2"], &["198.51.100.0/24", "2001:db8:c0::/48", "203.0.113.0/25"]);
    // A name that is misspelt, or a list that names no services, spares nobody, and says so.
    let others = "AMAZON, CLOUDFRONT, EC2, ROUTE53_HEALTHCHECKS";
    check(aws, &["ROUTE53"], &[&format!("has no entry of `services` (its entries are of {others})")]);
    check("fastly.json", &["CDN"], &["has no entry of `services` (its entries are of none)"]);
    let plain = "is no JSON list whose entries name a service, as `services` asks for";
    check("cloudflare-ips-v4.txt", &["CDN"], &[plain]);
}
