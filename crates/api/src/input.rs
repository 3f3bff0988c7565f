//! What a handler takes beside the call: nothing, names from the path, a body.

use base::Json;
use bytes::Bytes;

use crate::call::Call;
use crate::fault::{Answer, Envelope, Refusal};
use crate::limits;
use crate::message::{BoxFuture, Content};
use crate::operation::Service;
use crate::version::Version;
use crate::wire::{At, Wire};

/// The one input of a handler.
pub trait Input<S: Service>: Sized + Send {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>>;

    /// The JSON schema of the body, for the generated documents.
    fn schema() -> Option<fn(Version) -> Json> {
        None
    }
}

/// The handler needs nothing but the call.
pub struct NoInput;

/// Names from the path, in order: `Path<String>` or `Path<(String, String)>`.
pub struct Path<T>(pub T);

/// A JSON body, checked.
pub struct Body<T>(pub T);

/// A JSON body that the handler looks at itself; absent is null.
pub struct AnyBody(pub Json);

/// The value under the action's key in a body of `POST …/action`.
pub struct Action<T>(pub T);

/// The body as it arrives, of any size.
pub struct Upload(pub Content);

impl<S: Service> Input<S> for NoInput {
    fn read<'a>(_: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async { Ok(NoInput) })
    }
}

impl<S: Service> Input<S> for Path<String> {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        let name = call.names.first().cloned().unwrap_or_default();
        Box::pin(async { Ok(Path(name)) })
    }
}

impl<S: Service> Input<S> for Path<(String, String)> {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        let name = |index: usize| call.names.get(index).cloned().unwrap_or_default();
        let pair = (name(0), name(1));
        Box::pin(async { Ok(Path(pair)) })
    }
}

impl<S: Service> Input<S> for Path<(String, String, String)> {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        let name = |index: usize| call.names.get(index).cloned().unwrap_or_default();
        let three = (name(0), name(1), name(2));
        Box::pin(async { Ok(Path(three)) })
    }
}

impl<S: Service, T: Wire> Input<S> for Body<T> {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async {
            let json = call.json().await?;
            let body = T::read_body(json, &mut At::top(call.version));
            body.map(Body).map_err(|problem| problem.refusal(S::SHAPE.envelope))
        })
    }

    fn schema() -> Option<fn(Version) -> Json> {
        Some(T::schema)
    }
}

impl<S: Service> Input<S> for AnyBody {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async { call.json().await.map(AnyBody) })
    }
}

impl<S: Service, T: Wire> Input<S> for Action<T> {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async {
            let mut json = call.json().await?;
            let key = call.action.unwrap_or_default();
            let inner = json.get_mut(key).map(Json::take).unwrap_or_default();
            // Upstream: an action without arguments may be null, a string or an object.
            let inner = if inner.is_object() { inner } else { base::json!({}) };
            let mut at = At::top(call.version);
            at.path.push(key.to_string());
            T::read(inner, &mut at).map(Action).map_err(|problem| problem.refusal(S::SHAPE.envelope))
        })
    }

    fn schema() -> Option<fn(Version) -> Json> {
        Some(T::schema)
    }
}

impl<S: Service> Input<S> for Upload {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        let content = call.take_content();
        Box::pin(async { Ok(Upload(content)) })
    }
}

impl<S: Service, A: Input<S>, B: Input<S>> Input<S> for (A, B) {
    fn read<'a>(call: &'a mut Call<S>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async {
            let first = A::read(call).await?;
            Ok((first, B::read(call).await?))
        })
    }

    fn schema() -> Option<fn(Version) -> Json> {
        A::schema().or_else(B::schema)
    }
}

/// The whole of a JSON body, before anybody reads it.
pub(crate) async fn whole(content: Content) -> Answer<Bytes> {
    match tokio::time::timeout(limits::JSON_BODY_TIME, content.bytes(limits::JSON_BODY_BYTES)).await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Refusal::new(413, "", "Request is too large.")),
        Err(_) => Err(Refusal::new(408, "", "The body took too long to come.")),
    }
}

/// Reads a body as JSON; an empty one is null. Duplicate keys: the last one wins, as in Python. The JSON library
/// refuses what is nested deeper than 128 levels.
pub(crate) async fn json(content: Content, version: Version, envelope: Envelope) -> Answer<Json> {
    let bytes = whole(content).await?;
    if bytes.is_empty() {
        return Ok(Json::Null);
    }
    let body = parsed(&bytes, envelope)?;
    // Few bodies have the escape, so few are searched.
    if bytes.windows(6).any(|six| six == b"\\u0000")
        && let Some(problem) = crate::wire::nul_in(&body, &mut At::top(version))
    {
        return Err(problem.refusal(envelope));
    }
    Ok(body)
}

fn parsed(bytes: &[u8], envelope: Envelope) -> Answer<Json> {
    let words = match envelope {
        Envelope::Image => "Malformed JSON in request body.",
        Envelope::Network => "Body contains invalid data",
        Envelope::Identity => {
            "Expecting to find valid JSON in request body. The server could not comply with the request since it is \
             either malformed or otherwise incorrect. The client is assumed to be in error."
        }
        _ => "Malformed request body",
    };
    serde_json::from_slice(bytes).map_err(|error| match envelope {
        Envelope::Placement => Refusal::bad_request(format!("Malformed JSON: {error}")),
        _ => Refusal::bad_request(words),
    })
}
