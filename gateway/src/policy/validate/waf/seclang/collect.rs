//! The values of a request, by the variables that have them.

use std::rc::Rc;

use super::{
    super::{
        decode,
        parts::Parts,
        request::{Collection, Values, WafRequest},
    },
    operator,
    targets::Variable,
};

/// How many variables there are.
const VARIABLES: usize = Variable::Xml as usize + 1;

/// One value.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Rc<[u8]>,
    pub(super) value: Rc<[u8]>,
    pub(super) place: Collection,
}

/// All values that do not change while rules run.
pub(super) struct Items {
    pub(super) all: Vec<Item>,
    by_variable: Vec<Vec<usize>>,
    args_size: usize,
}

impl Items {
    /// What the head of a request has.
    pub(super) fn of_head(values: &Values<'_>) -> Self {
        let mut items = Self { all: Vec::new(), by_variable: vec![Vec::new(); VARIABLES], args_size: 0 };
        for (name, value) in &values.query {
            items.argument(Collection::Query, name, value, Some([Variable::ArgsGet, Variable::ArgsGetNames]));
        }
        let request = &values.request;
        for (name, value) in request.headers {
            let name = name.as_bytes();
            items.add(&[Variable::RequestHeaders], Collection::Header, name, value);
            items.add(&[Variable::RequestHeadersNames], Collection::Header, name, name);
        }
        for (name, value) in &values.cookies {
            items.add(&[Variable::RequestCookies], Collection::Cookie, name, value);
            items.add(&[Variable::RequestCookiesNames], Collection::Cookie, name, name);
        }
        let line = format!("{} {} {}", request.method, request.target, request.protocol);
        let decoded = decode::percent(request.target.as_bytes(), false);
        let raw_query = request.target.split_once('?').map_or("", |(_, query)| query);
        let raw_query = raw_query.split('#').next().unwrap_or_default();
        let uri = decoded.split(|&byte| byte == b'#').next().unwrap_or_default();
        let file = values.path.split(|&byte| matches!(byte, b'/' | b'\\')).next_back().unwrap_or_default();
        let host = request.header("host").unwrap_or_default();
        let host = host.split(|&byte| byte == b':').next().unwrap_or_default();
        let auth = request.header("authorization").unwrap_or_default();
        let auth = auth.split(|&byte| byte == b' ').next().unwrap_or_default();
        let client = request.client.to_string();
        for (variable, place, value) in [
            (Variable::QueryString, Collection::Query, raw_query.as_bytes()),
            (Variable::RemoteAddr, Collection::Other, client.as_bytes()),
            (Variable::RequestBasename, Collection::Path, file),
            (Variable::RequestFilename, Collection::Path, &values.path),
            (Variable::RequestLine, Collection::Path, line.as_bytes()),
            (Variable::RequestMethod, Collection::Other, request.method.as_bytes()),
            (Variable::RequestProtocol, Collection::Other, request.protocol.as_bytes()),
            (Variable::RequestUri, Collection::Path, uri),
            (Variable::RequestUriRaw, Collection::Path, request.target.as_bytes()),
            (Variable::ServerName, Collection::Header, host),
            (Variable::AuthType, Collection::Header, auth),
        ] {
            if !value.is_empty() {
                items.add(&[variable], place, b"", value);
            }
        }
        items.add(&[Variable::UniqueId], Collection::Other, b"", b"0");
        items.add(&[Variable::Duration], Collection::Other, b"", b"0");
        items.add(
            &[Variable::UrlencodedError],
            Collection::Other,
            b"",
            if operator::has_bad_escape(raw_query.as_bytes()) { b"1" } else { b"0" },
        );
        let processor = values.format.map_or("", |format| format.name());
        items.add(&[Variable::ReqbodyProcessor], Collection::Other, b"", processor.as_bytes());
        items.sizes(0, 0);
        items
    }

    /// The request as one value: its line, its headers, and its body as far as that is text.
    pub(super) fn set_full_request(&mut self, request: &WafRequest<'_>, body: &[u8]) {
        let mut full = format!("{} {} {}\r\n", request.method, request.target, request.protocol).into_bytes();
        for &(name, value) in request.headers {
            full.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        full.extend(b"\r\n");
        full.extend(body);
        self.set(Variable::FullRequest, &full);
    }

    /// What its body has, besides.
    pub(super) fn add_body(&mut self, body: &[u8], parts: &Parts, processor: &str) {
        let is_json = processor == "JSON";
        for (name, value) in &parts.fields {
            let own = (!is_json).then_some([Variable::ArgsPost, Variable::ArgsPostNames]);
            self.argument(Collection::Body, name, value, own);
        }
        for (name, file) in &parts.files {
            self.add(&[Variable::Files], Collection::File, name, file);
            self.add(&[Variable::FilesNames], Collection::File, name, name);
        }
        for name in parts.unread.iter().filter(|name| !parts.files.iter().any(|(file, _)| file == *name)) {
            self.add(&[Variable::FilesNames], Collection::File, name, name);
        }
        for (name, header) in &parts.part_headers {
            self.add(&[Variable::MultipartPartHeaders], Collection::Body, name, header);
        }
        if !parts.text.is_empty() {
            self.add(&[Variable::Xml], Collection::Body, b"/*", &parts.text);
        }
        for value in &parts.attributes {
            self.add(&[Variable::Xml], Collection::Body, b"//@*", value);
        }
        let text = parts.text_of(body);
        if !text.is_empty() {
            self.add(&[Variable::RequestBody], Collection::Body, b"", &text);
        }
        let error: &[u8] = if parts.error.is_some() { b"1" } else { b"0" };
        self.add(&[Variable::ReqbodyError], Collection::Other, b"", error);
        let is_multipart = processor == "MULTIPART";
        self.add(&[Variable::MultipartStrictError], Collection::Other, b"", if is_multipart { error } else { b"0" });
        self.set(Variable::ReqbodyProcessor, processor.as_bytes());
        self.sizes(body.len(), parts.files_size);
    }

    /// The values of a variable.
    pub(super) fn of(&self, variable: Variable) -> impl Iterator<Item = (usize, &Item)> {
        let indices = self.by_variable.get(variable as usize).map(Vec::as_slice).unwrap_or_default();
        indices.iter().filter_map(|&index| Some((index, self.all.get(index)?)))
    }

    fn argument(&mut self, place: Collection, name: &[u8], value: &[u8], own: Option<[Variable; 2]>) {
        self.args_size += name.len() + value.len();
        let [values, names] = own.map_or([None, None], |own| own.map(Some));
        let with = |variable: Variable, more: Option<Variable>| [Some(variable), more].into_iter().flatten();
        self.add(&with(Variable::Args, values).collect::<Vec<_>>(), place, name, value);
        self.add(&with(Variable::ArgsNames, names).collect::<Vec<_>>(), place, name, name);
    }

    fn add(&mut self, variables: &[Variable], place: Collection, key: &[u8], value: &[u8]) {
        let index = self.all.len();
        self.all.push(Item { key: key.into(), value: value.into(), place });
        for variable in variables {
            if let Some(indices) = self.by_variable.get_mut(*variable as usize) {
                indices.push(index);
            }
        }
    }

    /// Puts one value in the place of all that the variable had.
    fn set(&mut self, variable: Variable, value: &[u8]) {
        if let Some(indices) = self.by_variable.get_mut(variable as usize) {
            indices.clear();
        }
        self.add(&[variable], Collection::Other, b"", value);
    }

    fn sizes(&mut self, body: usize, files: usize) {
        for (variable, size) in [
            (Variable::ArgsCombinedSize, self.args_size),
            (Variable::FilesCombinedSize, files),
            (Variable::RequestBodyLength, body),
        ] {
            self.set(variable, size.to_string().as_bytes());
        }
    }
}
