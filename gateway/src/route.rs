//! The router: finds a request's route by host, path template, method and conditions.
//!
//! An exact host comes before a wildcard, a wildcard before no host; a more literal path before a less literal one.
//! The first of these that has the path at all decides: what its routes do not take is refused, and not handed to
//! something more general, which may ask for less. Among routes of one host and path, the one with more conditions is
//! asked first. Everything below a path is the path, too. A path with and without a slash at its end is one path, as far as
//! something more general would take it otherwise. Templates are read as canonical paths are (see
//! [`target`](crate::route::target)), so a template matches the one form in which a path arrives. *Invariant:* the order
//! of routes in the file never matters, and finding one allocates nothing.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, Method};

use crate::{
    diagnostic::Diagnostic,
    refusal::{Refusal, Reject},
    route::target::Target,
    settings::route::{Action, Route, RouteCondition, Subject},
    web::{
        header_values,
        path::{PathRules, template::template},
    },
};

use condition::Met;

pub mod explain;
mod preflight;
pub mod target;

mod condition;
pub mod cors;
mod strictness;

/// Why a query is refused that something decides by.
const BROKEN_ESCAPE: &str = "% without two hexadecimal digits in a query that the route reads";

/// Every route, ready to be looked up. A route is its position in the configuration.
#[derive(Default)]
pub struct Routes {
    hosts: HashMap<Box<str>, HostRoutes>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, HostRoutes>,
    /// The routes that name no host, where there are any.
    any: Option<HostRoutes>,
}

/// The routes of one host, by template.
type HostRoutes = matchit::Router<Vec<TemplateRoute>>;

/// What one template serves.
#[derive(Clone)]
struct TemplateRoute {
    route: usize,
    /// Empty: every method.
    methods: Box<[Method]>,
    /// All must be met.
    when: Box<[RouteCondition]>,
    /// What its paths may hold.
    allow_in_path: PathRules,
    /// Whether something else than rules of parameters, which decode it themselves, reads the query.
    inspects_query: bool,
}

/// Why no route was found.
#[derive(Debug)]
pub struct NoRoute {
    /// The refusal.
    pub refusal: Refusal,
    /// The methods that the path has, for `Allow` (RFC 9110 10.2.1).
    pub allow: Option<Box<HeaderValue>>,
}

impl Routes {
    /// Compiles the templates.
    ///
    /// # Errors
    /// A template that is none (`route[2].path`), or two routes for the same requests (both keys).
    pub fn new(routes: &[Route]) -> Result<Self, Vec<Diagnostic>> {
        let mut made = Self::default();
        let mut diagnostics = Vec::new();
        // matchit names the template that is in the way as it was inserted.
        let mut inserted: HashMap<(Option<&str>, String), usize> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let template = match template(&route.path) {
                Ok(template) => template,
                Err(message) => {
                    diagnostics.push(Diagnostic::new(format!("route[{index}].path"), message));
                    continue;
                }
            };
            let host = route.host.as_deref();
            let table = match host.map(|host| (host, host.strip_prefix("*."))) {
                Some((_, Some(parent))) => made.wildcards.entry(parent.into()).or_default(),
                Some((host, None)) => made.hosts.entry(host.into()).or_default(),
                None => made.any.get_or_insert_default(),
            };
            let served = TemplateRoute {
                route: index,
                methods: route.methods.clone().into(),
                when: route.when.clone().into(),
                allow_in_path: route.allow_in_path,
                inspects_query: route.waf.is_some() || route.graphql.is_some(),
            };
            if inserted.contains_key(&(host, template.clone())) {
                let Ok(found) = table.at_mut(&template) else { continue };
                match found.value.iter().find(|other| other.overlaps(&served)) {
                    Some(other) => diagnostics.push(conflict(index, other.route)),
                    None => {
                        let place = found.value.partition_point(|other| other.when.len() >= served.when.len());
                        found.value.insert(place, served);
                    }
                }
                continue;
            }
            match table.insert(template.clone(), vec![served]) {
                Ok(()) => {
                    inserted.insert((host, template), index);
                }
                Err(matchit::InsertError::Conflict { with }) => match inserted.get(&(host, with)) {
                    Some(&other) => diagnostics.push(conflict(index, other)),
                    None => diagnostics
                        .push(Diagnostic::new(format!("route[{index}].path"), "conflicts with another route")),
                },
                Err(error) => diagnostics.push(Diagnostic::new(format!("route[{index}].path"), error.to_string())),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        for ((host, template), _) in inserted.iter().filter(|((_, template), _)| template.contains("{*")) {
            made.take_base(*host, template);
        }
        made.take_siblings(&inserted, routes);
        Ok(made)
    }

    /// Lets the routes of `/items/new` take `/items/new/`, too, and the other way about, where the path would be taken by
    /// something more general. Many upstreams take both for one resource, and `/{*rest}` may ask for less (P01). A route
    /// that has the other path for its own keeps it, and what no route takes stays unknown. What is more general keeps the
    /// path where it asks for something that the route does not; and a route that redirects may lead to the other path.
    fn take_siblings(&mut self, inserted: &HashMap<(Option<&str>, String), usize>, routes: &[Route]) {
        let siblings = inserted.keys().filter(|(_, template)| !template.contains("{*") && template.len() > 1);
        let siblings: Vec<(Option<&str>, &str, String)> = siblings
            .filter_map(|(host, template)| {
                let other = template.strip_suffix('/').map_or_else(|| format!("{template}/"), ToOwned::to_owned);
                let general = self.general(*host, &other, inserted)?;
                let own = self.table(*host)?.at(template).ok()?.value;
                let all = |served: &[TemplateRoute]| served.iter().filter_map(|it| routes.get(it.route)).collect();
                let (own, general): (Vec<&Route>, Vec<&Route>) = (all(own), all(general));
                let leads_elsewhere = own.iter().any(|route| matches!(route.action, Action::Redirect(_)));
                let asks = own.iter().all(|own| general.iter().all(|general| strictness::asks_as_much(own, general)));
                (asks && !leads_elsewhere).then_some((*host, template.as_str(), other))
            })
            .collect();
        for (host, template, other) in siblings {
            let Some(table) = self.table_mut(host) else { continue };
            // A template finds itself: what stands for a parameter is a text like any other.
            let Ok(served) = table.at(template).map(|found| found.value.clone()) else { continue };
            // What cannot be inserted is there already, in a route of its own.
            drop(table.insert(other, served));
        }
    }

    /// The routes of the more general template that takes a path of this form, where no route of `host` names it.
    fn general(
        &self,
        host: Option<&str>,
        other: &str,
        inserted: &HashMap<(Option<&str>, String), usize>,
    ) -> Option<&[TemplateRoute]> {
        let exact = host.filter(|host| !host.starts_with("*."));
        let parent = host.and_then(|host| host.split_once('.')).map(|(_, parent)| parent);
        let wildcard = parent.map(|parent| format!("*.{parent}"));
        let tables = [
            (exact, exact.and_then(|host| self.hosts.get(host))),
            (wildcard.as_deref(), parent.and_then(|parent| self.wildcards.get(parent))),
            (None, self.any.as_ref()),
        ];
        let mut taking = tables.into_iter().filter_map(|(host, table)| Some((host, table?.at(other).ok()?.value)));
        let (host, served) = taking.next()?;
        (!inserted.contains_key(&(host, other.to_owned()))).then_some(served)
    }

    fn table(&self, host: Option<&str>) -> Option<&HostRoutes> {
        match host.map(|host| (host, host.strip_prefix("*."))) {
            Some((_, Some(parent))) => self.wildcards.get(parent),
            Some((host, None)) => self.hosts.get(host),
            None => self.any.as_ref(),
        }
    }

    fn table_mut(&mut self, host: Option<&str>) -> Option<&mut HostRoutes> {
        match host.map(|host| (host, host.strip_prefix("*."))) {
            Some((_, Some(parent))) => self.wildcards.get_mut(parent),
            Some((host, None)) => self.hosts.get_mut(host),
            None => self.any.as_mut(),
        }
    }

    /// Lets the routes of `/files/{*rest}` take `/files/` and `/files`, too, where no route names these: whoever
    /// guards everything below a path means the path itself.
    fn take_base(&mut self, host: Option<&str>, template: &str) {
        let Some((base, _)) = template.rsplit_once('/') else { return };
        let Some(table) = self.table_mut(host) else { return };
        let Ok(served) = table.at(template).map(|found| found.value.clone()) else { return };
        for path in [format!("{base}/"), base.to_owned()].into_iter().filter(|path| !path.is_empty()) {
            // What cannot be inserted is there already, in a route of its own.
            drop(table.insert(path, served.clone()));
        }
    }

    /// Whether anything is served under `host`.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.tables(host).next().is_some()
    }

    /// The tables for `host`, the most exact first.
    fn tables(&self, host: &str) -> impl Iterator<Item = &HostRoutes> {
        // Few configurations have any: the host is not split for nothing.
        let wildcards = (!self.wildcards.is_empty()).then_some(&self.wildcards);
        let parent = wildcards.and_then(|wildcards| wildcards.get(host.split_once('.')?.1));
        self.hosts.get(host).into_iter().chain(parent).chain(&self.any)
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    /// 404, 405 with the methods that would do, 421 where nothing is served under this host, or 400 where the path holds
    /// what only other routes take, or a condition is met by one of several values.
    pub fn find(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<usize, NoRoute> {
        let found = self.find_any(target, method, headers);
        let rules = found.as_ref().map_or(PathRules::default(), |served| served.allow_in_path);
        // What a program behind us makes of it is not what was inspected.
        let is_unclear = target.has_broken_escape() && found.as_ref().is_ok_and(|served| served.inspects_query);
        let refused = rules.refuses(target.odd());
        match refused.or_else(|| is_unclear.then_some(BROKEN_ESCAPE)) {
            None => found.map(|served| served.route),
            Some(detail) => Err(NoRoute { refusal: Refusal::new(Reject::BadRequest, detail), allow: None }),
        }
    }

    fn find_any(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<&TemplateRoute, NoRoute> {
        let Some(found) = self.tables(target.host()).find_map(|table| table.at(target.matched()).ok()) else {
            let refusal = if self.serves(target.host()) {
                Refusal::new(Reject::NotFound, "no route for this path")
            } else {
                Refusal::new(Reject::Misdirected, "host not served here")
            };
            return Err(NoRoute { refusal, allow: None });
        };
        // The upstream would get the request without the header that has chosen its route.
        let is_nominated = |condition: &RouteCondition| match &condition.subject {
            Subject::Header(name) => header_values::is_nominated(headers, name.as_str()),
            Subject::Query(_) => false,
        };
        if found.value.iter().any(|served| served.when.iter().any(is_nominated)) {
            let detail = "Connection names a header that the routes of this path depend on";
            return Err(NoRoute { refusal: Refusal::new(Reject::BadRequest, detail), allow: None });
        }
        let is_by_query = |condition: &RouteCondition| matches!(condition.subject, Subject::Query(_));
        if target.has_broken_escape() && found.value.iter().any(|served| served.when.iter().any(is_by_query)) {
            return Err(NoRoute { refusal: Refusal::new(Reject::BadRequest, BROKEN_ESCAPE), allow: None });
        }
        let query = target.origin().query().unwrap_or_default();
        for served in found.value.iter().filter(|served| served.takes(method)) {
            match served.meets(query, headers) {
                Ok(true) => return Ok(served),
                Ok(false) => {}
                // Whichever route took it, its upstream could read the other value.
                Err(subject) => {
                    let subject = match subject {
                        Subject::Header(name) => format!("the header {name}"),
                        Subject::Query(name) => format!("the query parameter {name:?}"),
                    };
                    let detail = format!("{subject} is there more than once, and its values lead to different routes");
                    return Err(NoRoute { refusal: Refusal::new(Reject::BadRequest, detail), allow: None });
                }
            }
        }
        let meets = |served: &&TemplateRoute| served.meets(query, headers).unwrap_or(true);
        let mut others: Vec<&str> = Vec::new();
        for method in found.value.iter().filter(meets).flat_map(|served| &served.methods) {
            if !others.contains(&method.as_str()) {
                others.push(method.as_str());
            }
        }
        if others.is_empty() {
            let refusal = Refusal::new(Reject::NotFound, "no route of this path has its conditions met");
            return Err(NoRoute { refusal, allow: None });
        }
        let allow = HeaderValue::try_from(others.join(", ")).ok().map(Box::new);
        Err(NoRoute { refusal: Refusal::new(Reject::MethodNotAllowed, "method not served here"), allow })
    }
}

impl TemplateRoute {
    /// Whether all conditions are met.
    ///
    /// # Errors
    /// That depends on which value counts of what is there more than once.
    fn meets(&self, query: &str, headers: &HeaderMap) -> Result<bool, &Subject> {
        let mut ambiguous = None;
        for condition in &self.when {
            match condition.is_met(query, headers) {
                Met::Yes => {}
                Met::No => return Ok(false),
                Met::Ambiguous => ambiguous = ambiguous.or(Some(&condition.subject)),
            }
        }
        ambiguous.map_or(Ok(true), Err)
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Whether both could be for one request, with nothing to say which comes first.
    fn overlaps(&self, other: &Self) -> bool {
        let share = |method| other.takes(method);
        let methods = self.methods.is_empty() || other.methods.is_empty() || self.methods.iter().any(share);
        methods && condition::are_in_conflict(&self.when, &other.when)
    }
}

fn conflict(index: usize, other: usize) -> Diagnostic {
    Diagnostic::new(format!("route[{index}].path"), format!("serves the same requests as route[{other}]"))
        .hint("give each route its own host, path or methods, more conditions, or ones that exclude each other")
}

#[cfg(test)]
mod tests;
