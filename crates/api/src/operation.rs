//! Operations as data: one row per thing that a client can ask for.

use std::sync::Arc;

use base::Json;
use http::Method;

use crate::call::Call;
use crate::fault::{Answer, Envelope, Refusal};
use crate::input::Input;
use crate::listing::Listing;
use crate::message::{BoxFuture, Reply, Request};
use crate::quota::OverQuota;
use crate::version::{Version, Versions};
use crate::view::{Output, Reader};

/// What all operations of one service have in common.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The public noun: `identity`, `compute`; also the path prefix under the single port.
    pub name: &'static str,
    pub envelope: Envelope,
    pub versions: Option<Versions>,
    /// Where operations live: `["/v2.1", "/v2"]`; `[""]` for placement.
    pub mounts: &'static [&'static str],
    /// Whether a project id may stand between the mount and the operation's path.
    pub project_in_path: bool,
}

/// One service: its shape and what its calls lean on.
pub trait Service: Sized + Send + Sync + 'static {
    const SHAPE: Shape;

    /// The words for a quota that is full.
    fn over_quota(over: &OverQuota) -> Refusal {
        let OverQuota { name, requested, used, limit } = over;
        Refusal::forbidden(format!(
            "Quota exceeded for {name}: Requested {requested}, but already used {used} of {limit} {name}"
        ))
    }

    /// Rows of a list when the client names no number; none means all.
    fn list_limit(&self) -> Option<u32> {
        None
    }

    /// Documents outside the table: `/`, `/v2.1/`. Asked before anything else; needs no token.
    fn document(&self, _request: &Request) -> Option<Reply> {
        None
    }
}

type Run<S> = Arc<dyn Fn(Call<S>, Option<u16>) -> BoxFuture<'static, Answer<Reply>> + Send + Sync>;

/// One thing that a client can ask for.
pub struct Operation<S: Service> {
    pub method: Method,
    /// Below the mount, with names in braces.
    pub path: &'static str,
    /// The key in the body of a `…/action` path.
    pub action: Option<&'static str>,
    pub rule: Option<&'static str>,
    pub since: Version,
    pub until: Version,
    pub listing: Option<&'static Listing>,
    /// Needs no token.
    pub public: bool,
    /// Any valid token will do; nothing is asked of the policy.
    pub open: bool,
    pub schema: Option<fn(Version) -> Json>,
    pub deprecated: bool,
    statuses: Vec<(Version, u16)>,
    run: Run<S>,
}

macro_rules! verbs {
    ($($verb:ident = $method:ident),*) => {$(
        /// An operation with this method, served at every version until said otherwise.
        pub fn $verb<S, I, O, F, H>(path: &'static str, handler: H) -> Operation<S>
        where
            S: Service,
            I: Input<S> + 'static,
            O: Output + 'static,
            F: Future<Output = Answer<O>> + Send + 'static,
            H: Fn(Call<S>, I) -> F + Send + Sync + 'static,
        {
            Operation::new(Method::$method, path, None, handler)
        }
    )*};
}
verbs!(get = GET, head = HEAD, post = POST, put = PUT, patch = PATCH, delete = DELETE);

/// A `POST` to an `…/action` path whose body has `key`.
pub fn action<S, I, O, F, H>(path: &'static str, key: &'static str, handler: H) -> Operation<S>
where
    S: Service,
    I: Input<S> + 'static,
    O: Output + 'static,
    F: Future<Output = Answer<O>> + Send + 'static,
    H: Fn(Call<S>, I) -> F + Send + Sync + 'static,
{
    Operation::new(Method::POST, path, Some(key), handler)
}

impl<S: Service> Operation<S> {
    fn new<I, O, F, H>(method: Method, path: &'static str, action: Option<&'static str>, handler: H) -> Operation<S>
    where
        I: Input<S> + 'static,
        O: Output + 'static,
        F: Future<Output = Answer<O>> + Send + 'static,
        H: Fn(Call<S>, I) -> F + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let run: Run<S> = Arc::new(move |mut call: Call<S>, status| {
            let handler = handler.clone();
            Box::pin(async move {
                let input = I::read(&mut call).await?;
                let reader: Arc<Reader> = call.reader.clone();
                let output = handler(call, input).await?;
                Ok(output.reply(status, &reader))
            })
        });
        Operation {
            method,
            path,
            action,
            rule: None,
            since: Version(0, 0),
            until: Version::MAX,
            listing: None,
            public: false,
            open: false,
            schema: I::schema(),
            deprecated: false,
            statuses: Vec::new(),
            run,
        }
    }

    /// The policy rule that decides; its default stands in the service's `policy.tsv`.
    pub fn rule(mut self, name: &'static str) -> Self {
        self.rule = Some(name);
        self
    }

    /// No token is needed.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Any valid token will do.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    pub fn since(mut self, version: Version) -> Self {
        self.since = version;
        self
    }

    /// The last version that has it.
    pub fn until(mut self, version: Version) -> Self {
        self.until = version;
        self
    }

    /// The status of success.
    pub fn status(self, status: u16) -> Self {
        self.was(status, Version::MAX)
    }

    /// The status of success up to and including `until`. Later lines are for later versions.
    pub fn was(mut self, status: u16, until: Version) -> Self {
        self.statuses.push((until, status));
        self
    }

    pub fn paged(mut self, listing: &'static Listing) -> Self {
        self.listing = Some(listing);
        self
    }

    /// Upstream calls it deprecated; clients still use it.
    pub fn deprecated(mut self) -> Self {
        self.deprecated = true;
        self
    }

    pub(crate) fn serves(&self, version: Version) -> bool {
        self.since <= version && version <= self.until
    }

    pub(crate) fn status_at(&self, version: Version) -> Option<u16> {
        self.statuses.iter().find(|(until, _)| version <= *until).map(|(_, status)| *status)
    }

    pub(crate) fn run(&self, call: Call<S>) -> BoxFuture<'static, Answer<Reply>> {
        let status = self.status_at(call.version);
        (self.run)(call, status)
    }
}
