//! How a request is answered: by the words that its path begins with, else by the script.
//!
//! | path | what happens |
//! |---|---|
//! | `/status/{code}` | that status |
//! | `/delay/{ms}` | the answer comes that much later |
//! | `/hang` | no answer; the connection ends after ten minutes |
//! | `/drip` | 200, then a byte of body five times a second, for ten minutes |
//! | `/close` | the connection is closed without an answer |
//! | `/retry-after/{s}/{code}` | that status with `Retry-After` |
//! | `/fail-first/{n}` | 503 to the first n requests of the same delivery and path |
//! | `/callback/{answer}` | 200 with that word as body, as a callback answers; `error`: 500 |
//! | `/contract/{name}` | nothing: the request is verified under that contract |
//!
//! Words can follow each other (`/delay/200/status/500`); what comes after the first other segment
//! is free (`/status/500/tenant-a`). A known word with a value that it cannot have is answered with
//! 400 and says so, because it is a mistake in a test.

use std::time::Duration;

use http::StatusCode;

/// What a receiver does where the path does not say.
#[derive(Clone, Debug)]
pub struct Script {
    /// Statuses of the first, second, … request; the last one stays. Empty: 200.
    pub answers: Vec<StatusCode>,
    /// How long to wait before answering.
    pub delay: Duration,
    /// How a request ends.
    pub ending: Ending,
    /// The body of every answer.
    pub body: String,
    /// `Retry-After` in seconds, on answers other than 2xx.
    pub retry_after: Option<u32>,
    /// Requests that it bears in a second: more are answered with 503, whatever else they ask for.
    pub per_second: Option<u32>,
}

impl Default for Script {
    /// 200 at once, with an empty body.
    fn default() -> Self {
        Self {
            answers: Vec::new(),
            delay: Duration::ZERO,
            ending: Ending::Answer,
            body: String::new(),
            retry_after: None,
            per_second: None,
        }
    }
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answer,
    /// With an answer whose body comes slowly and does not end.
    Drip,
    /// Not at all.
    Hang,
    /// With a closed connection.
    Close,
}

/// What is done with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Wait this long first.
    pub delay: Duration,
    /// Then end so.
    pub ending: Ending,
    /// The answer's status, if there is one.
    pub status: StatusCode,
    /// The answer's body.
    pub body: String,
    /// The answer's `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// The contract that the path names.
    pub contract: Option<String>,
}

impl Plan {
    /// Answers with 503: there are more requests than the receiver bears.
    pub fn overload(&mut self) {
        answer(self, StatusCode::SERVICE_UNAVAILABLE, None);
        self.delay = Duration::ZERO;
    }

    /// Answers with 400 and what is wrong with the path.
    pub fn refuse(&mut self, mistake: String) {
        answer(self, StatusCode::BAD_REQUEST, None);
        self.body = mistake;
    }
}

/// What is done with a request: `number` counts all requests from 0, `earlier` is how many came
/// before of the same delivery and path.
pub fn plan(script: &Script, path: &str, number: usize, earlier: u32) -> Plan {
    let last = script.answers.len().saturating_sub(1);
    let status = script.answers.get(number.min(last)).copied().unwrap_or(StatusCode::OK);
    let mut plan = Plan {
        delay: script.delay,
        ending: script.ending,
        status,
        body: script.body.clone(),
        retry_after: script.retry_after.filter(|_| !status.is_success()),
        contract: None,
    };
    if let Err(mistake) = follow(path, earlier, &mut plan) {
        plan.refuse(mistake);
    }
    plan
}

/// Changes the plan as the words of a path say.
fn follow(path: &str, earlier: u32, plan: &mut Plan) -> Result<(), String> {
    let mut segments = path.split('/').skip(1);
    while let Some(word) = segments.next() {
        match word {
            "status" => answer(plan, status(word, segments.next())?, None),
            "delay" => {
                let ms = number(word, segments.next(), "milliseconds")?;
                plan.delay = Duration::from_millis(u64::from(ms));
            }
            "hang" => plan.ending = Ending::Hang,
            "close" => plan.ending = Ending::Close,
            "drip" => {
                answer(plan, StatusCode::OK, None);
                plan.ending = Ending::Drip;
            }
            "retry-after" => {
                let seconds = number(word, segments.next(), "seconds")?;
                answer(plan, status(word, segments.next())?, Some(seconds));
            }
            "fail-first" => {
                let failing = number(word, segments.next(), "a number of requests")?;
                if earlier < failing {
                    answer(plan, StatusCode::SERVICE_UNAVAILABLE, None);
                } else {
                    answer(plan, StatusCode::OK, None);
                }
            }
            "callback" => {
                let word = text(word, segments.next(), "an answer, as in true, false or error")?;
                if word == "error" {
                    answer(plan, StatusCode::INTERNAL_SERVER_ERROR, None);
                } else {
                    answer(plan, StatusCode::OK, None);
                    word.clone_into(&mut plan.body);
                }
            }
            "contract" => {
                plan.contract = Some(text(word, segments.next(), "a contract's name")?.to_owned());
            }
            _ => break,
        }
    }
    Ok(())
}

fn answer(plan: &mut Plan, status: StatusCode, retry_after: Option<u32>) {
    plan.ending = Ending::Answer;
    plan.status = status;
    plan.retry_after = retry_after;
}

fn text<'a>(word: &str, value: Option<&'a str>, what: &str) -> Result<&'a str, String> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("/{word}/ must be followed by {what}\n"))
}

fn number(word: &str, value: Option<&str>, what: &str) -> Result<u32, String> {
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| format!("/{word}/ must be followed by {what}\n"))
}

fn status(word: &str, value: Option<&str>) -> Result<StatusCode, String> {
    value
        .and_then(parse_status)
        .ok_or_else(|| format!("/{word}/ must be followed by a status from 200 to 999\n"))
}

/// A status that can end a request: 1xx cannot.
pub fn parse_status(text: &str) -> Option<StatusCode> {
    text.parse().ok().filter(|status: &StatusCode| !status.is_informational())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_path(path: &str, earlier: u32) -> (u64, Ending, u16, Option<u32>) {
        let plan = plan(&Script::default(), path, 0, earlier);
        let delay = u64::try_from(plan.delay.as_millis()).unwrap();
        (delay, plan.ending, plan.status.as_u16(), plan.retry_after)
    }

    #[test]
    fn a_sequence_is_followed_and_its_last_answer_stays() {
        let answers = [500, 503, 200].map(|code| StatusCode::from_u16(code).unwrap()).to_vec();
        let script = Script { answers, retry_after: Some(5), ..Script::default() };
        let seen: Vec<_> = (0..5)
            .map(|number| plan(&script, "/hook", number, 0))
            .map(|plan| (plan.status.as_u16(), plan.retry_after))
            .collect();
        let (bad, good) = (Some(5), None);
        assert_eq!(seen, [(500, bad), (503, bad), (200, good), (200, good), (200, good)]);
        assert_eq!(by_path("/hook", 0), (0, Ending::Answer, 200, None));
    }

    #[test]
    fn paths_say_what_happens() {
        assert_eq!(by_path("/status/410/acme", 0), (0, Ending::Answer, 410, None));
        assert_eq!(by_path("/delay/250", 0), (250, Ending::Answer, 200, None));
        assert_eq!(by_path("/delay/250/status/500", 0), (250, Ending::Answer, 500, None));
        assert_eq!(by_path("/hang", 0).1, Ending::Hang);
        assert_eq!(by_path("/close/x", 0).1, Ending::Close);
        assert_eq!(by_path("/drip", 0), (0, Ending::Drip, 200, None));
        assert_eq!(by_path("/retry-after/7/429", 0), (0, Ending::Answer, 429, Some(7)));
        assert_eq!(by_path("/hooks/status/500", 0), (0, Ending::Answer, 200, None));
    }

    #[test]
    fn the_first_requests_fail() {
        let statuses: Vec<_> = (0..4).map(|earlier| by_path("/fail-first/2", earlier).2).collect();
        assert_eq!(statuses, [503, 503, 200, 200]);
    }

    #[test]
    fn a_path_beats_the_script() {
        let script = Script { ending: Ending::Hang, body: "hi".into(), ..Script::default() };
        let planned = plan(&script, "/status/202", 0, 0);
        assert_eq!(
            (planned.ending, planned.status.as_u16(), planned.body.as_str()),
            (Ending::Answer, 202, "hi")
        );
        assert_eq!(plan(&script, "/", 0, 0).ending, Ending::Hang);
    }

    #[test]
    fn a_callback_answers_with_a_word() {
        let answered = |path| {
            let script = Script { body: "hi".into(), ..Script::default() };
            let plan = plan(&script, path, 0, 0);
            (plan.status.as_u16(), plan.body)
        };
        assert_eq!(answered("/callback/true"), (200, "true".to_owned()));
        assert_eq!(answered("/contract/x/delay/5/callback/0/y"), (200, "0".to_owned()));
        assert_eq!(answered("/callback/error"), (500, "hi".to_owned()));
    }

    #[test]
    fn a_path_may_name_a_contract() {
        let planned = plan(&Script::default(), "/contract/tusfacturas/status/500", 0, 0);
        assert_eq!(
            (planned.contract.as_deref(), planned.status.as_u16()),
            (Some("tusfacturas"), 500)
        );
        assert_eq!(plan(&Script::default(), "/hook/contract/x", 0, 0).contract, None);
    }

    #[test]
    fn mistakes_are_answered_with_400() {
        for path in [
            "/status",
            "/status/abc",
            "/status/100",
            "/delay/-1",
            "/fail-first/",
            "/retry-after/5",
            "/callback/",
            "/contract",
        ] {
            let plan = plan(&Script::default(), path, 0, 0);
            assert_eq!(plan.status.as_u16(), 400, "{path}");
            assert!(plan.body.contains("must be followed by"), "{path}");
        }
    }
}
