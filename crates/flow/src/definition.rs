//! What a flow is called, what it is told, and the function that tells its story.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::run::{End, Launch, Run, Stop};
use crate::step::{Failure, StepError};
use crate::unwind;

/// What a flow is told when it starts, and all that an undo sees. Kept as JSON: its fields are a stored format.
pub trait Order: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The id of what the flow works on. Flows of one resource run one after the other, in the order of their start.
    fn resource(&self) -> &str;
}

/// The name and version of a flow, tied to the type of its order.
///
/// Invariant: what runs under one name and version never changes its step names or the fields of its order; see
/// docs/adr/0002-versioned-flows.md.
pub struct Kind<O> {
    pub name: &'static str,
    pub version: u32,
    order: PhantomData<fn(O)>,
}

impl<O> Kind<O> {
    pub const fn new(name: &'static str, version: u32) -> Kind<O> {
        Kind { name, version, order: PhantomData }
    }
}

impl<O> Clone for Kind<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Kind<O> {}

/// The function behind a flow: any `async fn(&mut Run<C, O>) -> Result<(), Stop>`.
pub trait Story<'a, C, O>: Send + Sync + 'static {
    fn tell(&self, run: &'a mut Run<C, O>) -> BoxFuture<'a, Result<(), Stop>>;
}

impl<'a, C: 'a, O: 'a, F, R> Story<'a, C, O> for F
where
    F: Fn(&'a mut Run<C, O>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Stop>> + Send + 'a,
{
    fn tell(&self, run: &'a mut Run<C, O>) -> BoxFuture<'a, Result<(), Stop>> {
        self(run).boxed()
    }
}

pub(crate) type FailedHook<C, O> =
    Box<dyn Fn(Arc<C>, Arc<O>, Failure) -> BoxFuture<'static, Result<(), StepError>> + Send + Sync>;

/// A flow as a service defines it. Lists hold [`Definition`]s: `Flow::new(BOOT, boot).failed(boot_failed).into()`.
pub struct Flow<C, O> {
    kind: Kind<O>,
    story: Box<dyn for<'a> Story<'a, C, O>>,
    failed: Option<FailedHook<C, O>>,
    unstoppable: bool,
}

impl<C, O> Flow<C, O>
where
    C: Send + Sync + 'static,
    O: Order,
{
    pub fn new(kind: Kind<O>, story: impl for<'a> Story<'a, C, O>) -> Flow<C, O> {
        Flow { kind, story: Box::new(story), failed: None, unstoppable: false }
    }

    /// What to do after everything was undone: put the resource into ERROR, with the reason. An "ensure", like a step.
    pub fn failed<F, R, E>(mut self, hook: F) -> Flow<C, O>
    where
        F: Fn(Arc<C>, Arc<O>, Failure) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<StepError>,
    {
        self.failed = Some(Box::new(move |context, order, failure| {
            hook(context, order, failure).map(|done| done.map_err(Into::into)).boxed()
        }));
        self
    }

    /// [`crate::Flows::cancel`] does not stop this flow: it is itself what wins, such as a delete.
    pub fn unstoppable(mut self) -> Flow<C, O> {
        self.unstoppable = true;
        self
    }
}

/// A flow whose order is known by name only.
pub struct Definition<C> {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) tell: Arc<dyn Fn(Launch<C>) -> BoxFuture<'static, End> + Send + Sync>,
}

impl<C> Clone for Definition<C> {
    fn clone(&self) -> Self {
        Definition { name: self.name, version: self.version, tell: self.tell.clone() }
    }
}

impl<C, O> From<Flow<C, O>> for Definition<C>
where
    C: Send + Sync + 'static,
    O: Order,
{
    fn from(flow: Flow<C, O>) -> Definition<C> {
        let Kind { name, version, .. } = flow.kind;
        let flow = Arc::new(flow);
        Definition { name, version, tell: Arc::new(move |launch| told(flow.clone(), launch).boxed()) }
    }
}

/// One run of a flow, from the claim to the last row.
async fn told<C, O>(flow: Arc<Flow<C, O>>, launch: Launch<C>) -> End
where
    C: Send + Sync + 'static,
    O: Order,
{
    let order = match serde_json::from_str(&launch.row.order_json) {
        Ok(order) => order,
        Err(error) => {
            let row = &launch.row;
            tracing::error!(flow = row.id, kind = row.kind, version = row.version, %error, "an order cannot be read");
            return End::LetGo;
        }
    };
    let mut run = Run::new(launch, order, flow.unstoppable);
    let told = flow.story.tell(&mut run).await;
    unwind::finish(run, told.is_ok(), flow.failed.as_ref()).await
}
