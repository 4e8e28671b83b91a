//! Letting others run between two pieces of work.

/// Gives way once: whatever else waits on this thread runs before the caller goes on.
///
/// Natively the task is put at the end of its executor's queue. In a browser a macrotask passes, so that messages are
/// received and the page is painted; a resolved promise would not do, because microtasks run before both.
pub async fn yield_now() {
    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    native::yield_now().await;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    browser::yield_now().await;
}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod native {
    use std::task::Poll;

    pub(super) async fn yield_now() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            // Woken at once, but queued behind those that wait already.
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod browser {
    pub(super) async fn yield_now() {
        // Not setTimeout: nested time-outs are delayed by 4 ms or more, which is a whole training step of a small model.
        let channel = web_sys::MessageChannel::new().expect("every browser with WebAssembly has MessageChannel");
        let promise = js_sys::Promise::new(&mut |resolve, _| channel.port1().set_onmessage(Some(&resolve)));
        channel.port2().post_message(&wasm_bindgen::JsValue::NULL).expect("null can be posted");
        wasm_bindgen_futures::JsFuture::from(promise).await.expect("the promise is never rejected");
        channel.port1().close();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn two_tasks_take_turns() {
        let order = RefCell::new(Vec::new());
        let task = async |name: &'static str| {
            for turn in 0..2 {
                order.borrow_mut().push((name, turn));
                yield_now().await;
            }
        };
        let (mut first, mut second) = (pin!(task("first")), pin!(task("second")));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let done = first.as_mut().poll(&mut context).is_ready();
            if second.as_mut().poll(&mut context).is_ready() && done {
                break;
            }
        }
        assert_eq!(*order.borrow(), [("first", 0), ("second", 0), ("first", 1), ("second", 1)]);
    }
}
