//! What it means to pass a server's response on safely to a client of HTTP/1 or HTTP/2, for all bytes there are: used by
//! the tests here, and written for a fuzzer.
//!
//! In whichever form its head is read and passed on, the client reads the same response.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::response_writer::{Manner, end_lines, write_head};
use crate::{
    proxy::{
        framing::{encoder::BodyEncoder, reading::write},
        hpack::{Decoder, FieldValue},
        raw_head::{HeadFormat, RawHead},
        upstream::{
            headers,
            reading::{ReadResponse, read_response},
        },
    },
    web::request_id::RequestId,
};

const ID: RequestId = RequestId(0xab);

/// A response with more headers is not passed on here.
const MOST_HEADERS: usize = 90;

/// Names and values of headers, values in their order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

/// What is wrong with how `bytes` are read and passed on; `None`: nothing is.
pub(in crate::proxy) fn fault(bytes: &[u8]) -> Option<String> {
    [Method::GET, Method::HEAD].iter().find_map(|method| relayed(bytes, method).err())
}

fn relayed(bytes: &[u8], method: &Method) -> Result<(), String> {
    let [map, lines, fields] = [HeadFormat::Map, HeadFormat::Lines, HeadFormat::Fields];
    let by_map = read_response(bytes, method, map)?;
    let by_lines = read_response(bytes, method, lines)?;
    let by_fields = read_response(bytes, method, fields)?;
    let is_read = [by_map.is_some(), by_lines.is_some(), by_fields.is_some()];
    let (Some(by_map), Some(by_lines), Some(by_fields)) = (by_map, by_lines, by_fields) else {
        return if is_read == [false; 3] { Ok(()) } else { Err(format!("only some forms are read: {is_read:?}")) };
    };
    if !by_map.is_alike(&by_lines) || !by_map.is_alike(&by_fields) {
        return Err(format!("{by_map:?} is {by_lines:?} by lines and {by_fields:?} by fields"));
    }
    // A tunnel has headers of its own. A client takes no more headers than we do, and ours come on top.
    if by_map.status == StatusCode::SWITCHING_PROTOCOLS || by_map.headers.len() > MOST_HEADERS {
        return Ok(());
    }
    let mut expected = by_map.headers.clone();
    headers::response(&mut expected, HeaderValue::try_from(ID.to_string()).map_err(|error| error.to_string())?);
    for version in [Version::HTTP_10, Version::HTTP_11] {
        let manner = Manner { is_head: *method == Method::HEAD, version, keeps: true };
        let mut out = Vec::new();
        let (encoder, keeps) = write_head((by_map.status, None), &expected, by_map.length, manner, &mut out);
        taken(out, (encoder, keeps), (&by_map, &expected), manner)?;
    }
    if let Some(mut raw) = by_lines.lines {
        let manner = Manner { is_head: false, version: Version::HTTP_11, keeps: true };
        headers::lines(&mut raw, ID, None);
        let (out, encoder, keeps) = end_lines(raw, &HeaderMap::new(), manner);
        taken(out, (encoder, keeps), (&by_map, &expected), manner)?;
    }
    by_fields.lines.map_or(Ok(()), |raw| packed(raw, &expected))
}

/// What a client makes of a response.
fn taken(
    head: Vec<u8>,
    (encoder, keeps): (BodyEncoder, bool),
    (sent, expected): (&ReadResponse, &HeaderMap),
    manner: Manner,
) -> Result<(), String> {
    let mut message = head;
    let data: &[u8] = if encoder == BodyEncoder::Ended { &[] } else { &sent.body.data };
    write(encoder, data, &mut message)?;
    let text = || String::from_utf8_lossy(&message).into_owned();
    let method = if manner.is_head { Method::HEAD } else { Method::GET };
    let found = read_response(&message, &method, HeadFormat::Map)?;
    let found = found.ok_or_else(|| format!("no client can read {:?}", text()))?;
    // An old client is told by `Connection`.
    let is_kept = manner.version == Version::HTTP_10 || found.keeps == keeps;
    let is_same = found.status == sent.status && found.body.data == sent.body.data && found.behind == 0 && is_kept;
    let (found_fields, expected) = (of_content(&found.headers), of_content(expected));
    if is_same && found_fields == expected {
        return Ok(());
    }
    Err(format!("of {sent:?} a client makes {found:?}: {:?}", text()))
}

/// What a client of HTTP/2 makes of a head that was packed line by line.
fn packed(mut raw: RawHead, expected: &HeaderMap) -> Result<(), String> {
    headers::lines(&mut raw, ID, None);
    let (mut fields, mut others) = (Fields::new(), 0);
    let decoded = Decoder::new().decode(&raw.out, |field| match &field.content {
        FieldValue::Header(name, value) if is_content(name.as_str()) => {
            fields.entry(name.as_str().to_owned()).or_default().push(value.as_bytes().to_vec());
        }
        FieldValue::Header(..) => {}
        // The status, which no request has.
        _ => others += 1,
    });
    if decoded.is_ok() && others == 1 && fields == of_content(expected) {
        return Ok(());
    }
    Err(format!("{:x?} is read as {fields:?}, and not as {expected:?}", raw.out))
}

/// The headers that are not about the framing and the connection, nor written by us.
fn of_content(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_content(name.as_str())) {
        fields.entry(name.as_str().to_owned()).or_default().push(value.as_bytes().to_vec());
    }
    fields
}

fn is_content(name: &str) -> bool {
    let others = [header::CONNECTION, header::CONTENT_LENGTH, header::DATE, header::TRANSFER_ENCODING];
    others.iter().all(|other| other != name)
}
