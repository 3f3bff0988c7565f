//! The way back: undos in reverse, then the flow's own last word. Journalled like the way forth.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::definition::FailedHook;
use crate::faults::Trouble;
use crate::journal::{Lost, State};
use crate::limits::STEP_TIME;
use crate::run::{End, Ended, Run};
use crate::step::{Failure, StepError, attempt, chain, failure};

/// Brings a told story to its end, whatever it came to.
pub(crate) async fn finish<C, O>(mut run: Run<C, O>, told: bool, hook: Option<&FailedHook<C, O>>) -> End {
    match run.ended.take() {
        None if told => match run.journal.finish(State::Done).await {
            Ok(()) => End::Over,
            Err(Lost) => End::LetGo,
        },
        // A stop comes from a run only; this one came from elsewhere.
        None => unwound(run, failure("", "defect", "the flow stopped without a reason".into()), hook).await,
        Some(Ended::Failed(why)) => unwound(run, why, hook).await,
        Some(Ended::Lost) => End::LetGo,
        Some(Ended::Crashed) => End::Crashed,
    }
}

async fn unwound<C, O>(mut run: Run<C, O>, why: Failure, hook: Option<&FailedHook<C, O>>) -> End {
    match back(&mut run, &why, hook).await {
        Ok(()) => End::Over,
        Err(Ended::Crashed) => End::Crashed,
        Err(_) => End::LetGo,
    }
}

async fn back<C, O>(run: &mut Run<C, O>, why: &Failure, hook: Option<&FailedHook<C, O>>) -> Result<(), Ended> {
    let Failure { step, code, message } = why;
    if run.row.state != State::Undoing {
        tracing::warn!(
            flow = run.row.id,
            kind = run.row.kind,
            resource = run.row.resource,
            step,
            code,
            message,
            "a flow failed and is undone"
        );
        run.journal.turn(why).await.map_err(lost)?;
    }
    let undos = std::mem::take(&mut run.undos);
    for (position, (name, undo)) in undos.iter().enumerate().rev() {
        if run.steps.get(*name).is_some_and(|step| step.undone) {
            continue;
        }
        let shown = format!("undo {name}");
        persist(run, &shown, |run| run.acting(undo)).await;
        crash_point(run, &shown, Trouble::CrashAfterEffect)?;
        run.journal.undone(name, position as i64).await.map_err(lost)?;
        run.faults.pass(&shown);
        crash_point(run, &shown, Trouble::CrashAfterJournal)?;
    }
    if let Some(hook) = hook {
        let (context, order) = (run.context.clone(), run.order.clone());
        persist(run, "failed", |_| hook(context.clone(), order.clone(), why.clone())).await;
        crash_point(run, "failed", Trouble::CrashAfterEffect)?;
    }
    run.journal.finish(State::Failed).await.map_err(lost)
}

/// Tries for as long as it takes: giving up would leave something behind that nobody looks for any more. The flow
/// stays "undoing" and each try is in the log; a step's time limit bounds the try, the pace bounds the rate.
async fn persist<C, O>(
    run: &mut Run<C, O>,
    name: &str,
    act: impl Fn(&Run<C, O>) -> BoxFuture<'static, Result<(), StepError>>,
) {
    let mut tries = 0;
    loop {
        let error = match attempt(act(run).boxed(), STEP_TIME).await {
            Ok(()) => return,
            Err(error) => chain(&error),
        };
        tracing::error!(flow = run.row.id, step = name, tries, error, "the way back is blocked; trying again");
        run.pause(tries).await;
        tries += 1;
    }
}

fn crash_point<C, O>(run: &mut Run<C, O>, name: &str, trouble: Trouble) -> Result<(), Ended> {
    run.crash_point(name, trouble).map_err(|_| Ended::Crashed)
}

fn lost(Lost: Lost) -> Ended {
    Ended::Lost
}
