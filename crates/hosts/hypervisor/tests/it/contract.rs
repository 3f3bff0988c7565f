//! What every driver promises. Each test runs on the fake and, where real guests may boot, on QEMU.

use contract::HostError;
use contract::guest::{Guest, Power, Restart, State};

use crate::stage::{Stage, host_tests, run};

/// Runs one behaviour on every driver.
macro_rules! on_every_driver {
    ($($name:ident)*) => {
        mod fake {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Stage::fake()).await;
                }
            )*
        }
        mod qemu {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if super::host_tests() {
                        super::$name(super::Stage::qemu().await).await;
                    }
                }
            )*
        }
    };
}

on_every_driver! {
    an_order_is_carried_out_once
    an_older_order_is_refused
    a_held_guest_waits_for_its_wires
    a_guest_pauses_and_goes_on
    a_guest_is_suspended_and_resumed
    a_guest_that_does_not_run_cannot_be_suspended
    a_soft_restart_boots_again
    a_hard_restart_boots_again
    a_stopped_guest_starts_again
    a_guest_that_powers_itself_off_is_stopped_not_crashed
    a_killed_guest_is_crashed_and_starts_again_on_a_new_order
    a_guest_that_is_gone_leaves_nothing
    what_belongs_to_nobody_is_listed
    a_running_guest_answers_questions
}

/// The next order for a guest.
fn then(guest: &Guest, power: Power) -> Guest {
    Guest { generation: guest.generation + 1, power, ..guest.clone() }
}

fn restarted(guest: &Guest, restart: Restart) -> Guest {
    Guest { restarts: guest.restarts + 1, restart, ..then(guest, Power::Running) }
}

async fn an_order_is_carried_out_once(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.driver().ensure(&guest).await.unwrap();
    let report = stage.report(&guest.id).await.unwrap();
    assert_eq!((report.state, report.generation), (State::Running, 1));
    assert_eq!(stage.driver().guests().await.unwrap().len(), 1);

    // What happens to the guest afterwards is not undone by the same order.
    stage.kill(&guest.id).await;
    stage.becomes(&guest.id, State::Crashed).await;
    stage.driver().ensure(&guest).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Crashed));
}

async fn an_older_order_is_refused(stage: Stage) {
    let guest = stage.guest();
    let newer = then(&guest, Power::Held);
    stage.driver().ensure(&newer).await.unwrap();
    let error = stage.driver().ensure(&guest).await.unwrap_err();
    assert!(matches!(error, HostError::Never { .. }) && error.to_string().contains("older than 2"), "{error}");
    assert_eq!(stage.state(&guest.id).await, Some(State::Held));
}

async fn a_held_guest_waits_for_its_wires(stage: Stage) {
    let guest = Guest { power: Power::Held, ..stage.guest() };
    stage.driver().ensure(&guest).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Held));
    if let Stage::Qemu(real) = &stage {
        assert_eq!(real.taps(), [guest.nics[0].tap.clone()]);
    }
    stage.driver().ensure(&then(&guest, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
}

async fn a_guest_pauses_and_goes_on(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    let paused = then(&guest, Power::Paused);
    stage.driver().ensure(&paused).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Paused));
    stage.driver().ensure(&then(&paused, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
}

async fn a_guest_is_suspended_and_resumed(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.booted(&guest.id).await;
    let boots = boots(&stage, &guest).await;

    let suspended = then(&guest, Power::Suspended);
    stage.driver().ensure(&suspended).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Suspended));
    if let Stage::Qemu(real) = &stage {
        assert_eq!((real.pid(&guest.id), real.taps()), (None, vec![]));
    }

    stage.driver().ensure(&then(&suspended, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
    if let Stage::Qemu(real) = &stage {
        // It still is the same run, with its memory.
        stage.power_off(&guest.id).await;
        stage.becomes(&guest.id, State::Stopped).await;
        assert!(!real.dir(&guest.id).join("memory").exists());
        assert_eq!(self::boots(&stage, &guest).await, boots);
    }
}

async fn a_guest_that_does_not_run_cannot_be_suspended(stage: Stage) {
    let guest = Guest { power: Power::Stopped, ..stage.guest() };
    stage.driver().ensure(&guest).await.unwrap();
    let error = stage.driver().ensure(&then(&guest, Power::Suspended)).await.unwrap_err();
    assert!(matches!(error, HostError::Never { .. }), "{error}");
    assert_eq!(stage.state(&guest.id).await, Some(State::Stopped));
}

async fn a_soft_restart_boots_again(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.booted(&guest.id).await;
    let again = restarted(&guest, Restart::Soft);
    stage.driver().ensure(&again).await.unwrap();
    let report = stage.report(&guest.id).await.unwrap();
    assert_eq!((report.state, report.restarts), (State::Running, 1));
    if let Stage::Qemu(_) = &stage {
        let log = stage.says(&guest.id, "power button: shutting down").await;
        assert_eq!(log.matches("guest-done").count(), 1);
    }
}

async fn a_hard_restart_boots_again(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    let pid = pid(&stage, &guest);
    stage.driver().ensure(&restarted(&guest, Restart::Hard)).await.unwrap();
    let report = stage.report(&guest.id).await.unwrap();
    assert_eq!((report.state, report.restarts, report.generation), (State::Running, 1, 2));
    if let Stage::Qemu(_) = &stage {
        assert_ne!(self::pid(&stage, &guest), pid);
    }
}

async fn a_stopped_guest_starts_again(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.booted(&guest.id).await;
    let stopped = then(&guest, Power::Stopped);
    stage.driver().ensure(&stopped).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Stopped));
    assert_eq!(pid(&stage, &guest), None);
    stage.driver().ensure(&then(&stopped, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
}

async fn a_guest_that_powers_itself_off_is_stopped_not_crashed(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.booted(&guest.id).await;
    stage.power_off(&guest.id).await;
    stage.becomes(&guest.id, State::Stopped).await;
    stage.driver().ensure(&then(&guest, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
}

async fn a_killed_guest_is_crashed_and_starts_again_on_a_new_order(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    stage.kill(&guest.id).await;
    stage.becomes(&guest.id, State::Crashed).await;
    stage.driver().ensure(&then(&guest, Power::Running)).await.unwrap();
    assert_eq!(stage.state(&guest.id).await, Some(State::Running));
}

async fn a_guest_that_is_gone_leaves_nothing(stage: Stage) {
    let guest = stage.guest();
    stage.driver().ensure(&guest).await.unwrap();
    if let Stage::Qemu(real) = &stage {
        // The network agent marks the taps that it has wired.
        run(&["ip", "-n", &real.netns, "link", "set", "dev", &guest.nics[0].tap, "alias", "ferrostack-port:p"]);
    }
    stage.driver().ensure(&then(&guest, Power::Gone)).await.unwrap();
    stage.driver().ensure_gone(&guest.id).await.unwrap();
    assert_eq!(stage.driver().guests().await.unwrap(), []);
    assert_eq!(stage.driver().leaks(&[]).await.unwrap(), Vec::<String>::new());
    if let Stage::Qemu(real) = &stage {
        assert_eq!((real.pid(&guest.id), real.taps(), real.dir(&guest.id).exists()), (None, vec![], false));
    }
    // Neither does one that never was here.
    stage.driver().ensure_gone(&base::id::uuid()).await.unwrap();
}

async fn what_belongs_to_nobody_is_listed(stage: Stage) {
    let guest = Guest { power: Power::Held, ..stage.guest() };
    stage.driver().ensure(&guest).await.unwrap();
    let known = [guest.id.clone()];
    assert_eq!(stage.driver().leaks(&known).await.unwrap(), Vec::<String>::new());
    let leaks = stage.driver().leaks(&[]).await.unwrap();
    let kinds: &[&str] =
        if matches!(stage, Stage::Fake(_)) { &["guest"] } else { &["directory", "interface", "process"] };
    assert_eq!(leaks.len(), kinds.len(), "{leaks:?}");
    for (leak, kind) in leaks.iter().zip(kinds) {
        assert!(leak.starts_with(kind) && leak.contains(&guest.id), "{leak}");
    }
}

async fn a_running_guest_answers_questions(stage: Stage) {
    let guest = stage.guest();
    let missing = stage.driver().diagnostics(&guest.id).await.unwrap_err();
    assert!(matches!(missing, HostError::Missing { .. }), "{missing}");
    stage.driver().ensure(&guest).await.unwrap();
    let counters = stage.driver().diagnostics(&guest.id).await.unwrap();
    assert_eq!((&counters["state"], &counters["num_cpus"]), (&"running".into(), &1.into()));
    assert_eq!(counters["nic_details"][0]["mac_address"], "fa:16:3e:00:00:01");
    assert!(counters["disk_details"][0]["read_bytes"].is_u64(), "{counters}");
    stage.driver().vnc(&guest.id).await.unwrap();
    stage.driver().nmi(&guest.id).await.unwrap();
    stage.driver().console_log(&guest.id, 100).await.unwrap();

    stage.driver().ensure(&then(&guest, Power::Stopped)).await.unwrap();
    assert!(matches!(stage.driver().vnc(&guest.id).await, Err(HostError::Missing { .. })));
}

fn pid(stage: &Stage, guest: &Guest) -> Option<i32> {
    match stage {
        Stage::Fake(_) => None,
        Stage::Qemu(real) => real.pid(&guest.id),
    }
}

async fn boots(stage: &Stage, guest: &Guest) -> usize {
    let log = stage.driver().console_log(&guest.id, 65536).await.unwrap();
    log.matches("rc.boot done").count()
}
