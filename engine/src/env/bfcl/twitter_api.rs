//! A small social network: tweets, retweets, comments, mentions and followed users.

use std::sync::Arc;

use super::{ApiClass, BfclContext};
use crate::python::call::{method, optional, required};
use crate::python::number::int;
use crate::python::text::str;
use crate::python::{self, Default, Dict, Exception, Signature, Value, ops};

static SIGNATURES: [Signature; 14] = [
    method("authenticate_twitter", &[required("username"), required("password")]),
    method("posting_get_login_status", &[]),
    method(
        "post_tweet",
        &[required("content"), optional("tags", Default::EmptyList), optional("mentions", Default::EmptyList)],
    ),
    method("retweet", &[required("tweet_id")]),
    method("comment", &[required("tweet_id"), required("comment_content")]),
    method("mention", &[required("tweet_id"), required("mentioned_usernames")]),
    method("follow_user", &[required("username_to_follow")]),
    method("list_all_following", &[]),
    method("unfollow_user", &[required("username_to_unfollow")]),
    method("get_tweet", &[required("tweet_id")]),
    method("get_user_tweets", &[required("username")]),
    method("search_tweets", &[required("keyword")]),
    method("get_tweet_comments", &[required("tweet_id")]),
    method("get_user_stats", &[required("username")]),
];

/// The network of BFCL's `TwitterAPI`, seen by one user.
///
/// Tweets live only in `tweets`; retweets and comments refer to them by id, and results are turned to text at once, so
/// no two variables of the original ever share a dict in a way that shows, except the default lists of `post_tweet`
/// (a deliberate deviation: each call here gets fresh ones).
#[derive(Clone, Debug)]
pub struct TwitterApi {
    username: Value,
    password: Value,
    authenticated: Value,
    tweets: Value,
    comments: Value,
    retweets: Value,
    following_list: Value,
    tweet_counter: Value,
}

impl TwitterApi {
    /// Loads a scenario. What it leaves out has the class's default. Only the keys of `tweets` become ints: comments
    /// that a scenario brings keep text keys, so no call finds them.
    pub fn from_scenario(scenario: &Dict, _context: &BfclContext) -> python::Result<Self> {
        let attribute = |name: &str, default: Value| scenario.get(name).cloned().unwrap_or(default);
        let empty_dict = || Value::dict::<&str>([]);
        let mut tweets = Dict::new();
        for (id, tweet) in ops::dict_for(&attribute("tweets", empty_dict()), "items")?.iter() {
            tweets.set(Value::int(int(id)?), tweet.clone());
        }
        Ok(Self {
            username: attribute("username", Value::str("john")),
            password: attribute("password", Value::str("john123")),
            authenticated: attribute("authenticated", Value::Bool(false)),
            tweets: Value::Dict(Arc::new(tweets)),
            comments: attribute("comments", empty_dict()),
            retweets: attribute("retweets", empty_dict()),
            following_list: attribute("following_list", Value::list(["alice", "bob"].map(Value::str))),
            tweet_counter: attribute("tweet_counter", Value::int(0)),
        })
    }

    /// The refusal that most methods begin with, or `None` for a user who is logged in.
    fn refuse_anonymous(&self, action: &str) -> Option<Value> {
        (!self.authenticated.truthy())
            .then(|| Value::error(format!("User not authenticated. Please authenticate before {action}.")))
    }

    /// The refusal of an unknown tweet, or `None` for a known one.
    fn refuse_unknown(&self, tweet_id: &Value) -> python::Result<Option<Value>> {
        let known = ops::contains(&self.tweets, tweet_id)?;
        Ok((!known).then(|| Value::error(format!("Tweet with ID {} not found.", str(tweet_id)))))
    }

    /// `self.tweets.values()`
    fn tweets(&self) -> impl Iterator<Item = &Value> {
        self.tweets.as_dict().into_iter().flat_map(Dict::values)
    }

    fn tweets_by(&self, username: &Value) -> python::Result<Vec<Value>> {
        let mut found = Vec::new();
        for tweet in self.tweets() {
            if ops::get_key(tweet, "username")? == *username {
                found.push(tweet.clone());
            }
        }
        Ok(found)
    }

    fn authenticate_twitter(&mut self, username: &Value, password: &Value) -> Value {
        let matches = *username == self.username && *password == self.password;
        if matches {
            self.authenticated = Value::Bool(true);
        }
        Value::dict([("authentication_status", Value::Bool(matches))])
    }

    fn post_tweet(&mut self, content: &Value, tags: &Value, mentions: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_anonymous("posting") {
            return Ok(refusal);
        }
        let tweet = Value::dict([
            ("id", self.tweet_counter.clone()),
            ("username", self.username.clone()),
            ("content", content.clone()),
            ("tags", tags.clone()),
            ("mentions", mentions.clone()),
        ]);
        ops::set_item(&mut self.tweets, self.tweet_counter.clone(), tweet.clone())?;
        self.tweet_counter = next_id(&self.tweet_counter)?;
        Ok(tweet)
    }

    fn retweet(&mut self, tweet_id: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_anonymous("retweeting") {
            return Ok(refusal);
        }
        if let Some(refusal) = self.refuse_unknown(tweet_id)? {
            return Ok(refusal);
        }
        if !ops::contains(&self.retweets, &self.username)? {
            ops::set_item(&mut self.retweets, self.username.clone(), Value::list([]))?;
        }
        if ops::contains(&ops::get_item(&self.retweets, &self.username)?, tweet_id)? {
            return Ok(Value::dict([("retweet_status", Value::str("Already retweeted"))]));
        }
        append_to_item(&mut self.retweets, &self.username, tweet_id.clone())?;
        Ok(Value::dict([("retweet_status", Value::str("Successfully retweeted"))]))
    }

    fn comment(&mut self, tweet_id: &Value, comment_content: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_anonymous("commenting") {
            return Ok(refusal);
        }
        if let Some(refusal) = self.refuse_unknown(tweet_id)? {
            return Ok(refusal);
        }
        if !ops::contains(&self.comments, tweet_id)? {
            ops::set_item(&mut self.comments, tweet_id.clone(), Value::list([]))?;
        }
        let comment = Value::dict([("username", self.username.clone()), ("content", comment_content.clone())]);
        append_to_item(&mut self.comments, tweet_id, comment)?;
        Ok(Value::dict([("comment_status", Value::str("Comment added successfully"))]))
    }

    /// The one change that asks for no login.
    fn mention(&mut self, tweet_id: &Value, mentioned_usernames: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_unknown(tweet_id)? {
            return Ok(refusal);
        }
        let mut tweet = ops::get_item(&self.tweets, tweet_id)?;
        let mut mentions = ops::get_key(&tweet, "mentions")?;
        ops::list_for(&mut mentions, "extend")?.extend(ops::iterate(mentioned_usernames)?);
        ops::set_item(&mut tweet, Value::str("mentions"), mentions)?;
        ops::set_item(&mut self.tweets, tweet_id.clone(), tweet)?;
        Ok(Value::dict([("mention_status", Value::str("Users mentioned successfully"))]))
    }

    fn follow_user(&mut self, username: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_anonymous("following") {
            return Ok(refusal);
        }
        let fresh = !ops::contains(&self.following_list, username)?;
        if fresh {
            ops::list_for(&mut self.following_list, "append")?.push(username.clone());
        }
        Ok(Value::dict([("follow_status", Value::Bool(fresh))]))
    }

    fn list_all_following(&self) -> Value {
        self.refuse_anonymous("listing following")
            .unwrap_or_else(|| Value::dict([("following_list", self.following_list.clone())]))
    }

    fn unfollow_user(&mut self, username: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_anonymous("unfollowing") {
            return Ok(refusal);
        }
        let followed = ops::contains(&self.following_list, username)?;
        if followed {
            let list = ops::list_for(&mut self.following_list, "remove")?;
            if let Some(index) = list.iter().position(|followed| followed == username) {
                list.remove(index);
            }
        }
        Ok(Value::dict([("unfollow_status", Value::Bool(followed))]))
    }

    fn get_tweet(&self, tweet_id: &Value) -> python::Result<Value> {
        match self.refuse_unknown(tweet_id)? {
            Some(refusal) => Ok(refusal),
            None => ops::get_item(&self.tweets, tweet_id),
        }
    }

    fn search_tweets(&self, keyword: &Value) -> python::Result<Value> {
        let mut found = Vec::new();
        for tweet in self.tweets() {
            let keyword = lower(keyword)?;
            let matches = lower(&ops::get_key(tweet, "content")?)?.contains(&keyword) || {
                let tags = ops::iterate(&ops::get_key(tweet, "tags")?)?;
                // All tags are lowered before any is compared, so one that is no text always raises.
                tags.iter().map(lower).collect::<python::Result<Vec<_>>>()?.contains(&keyword)
            };
            if matches {
                found.push(tweet.clone());
            }
        }
        Ok(Value::list(found))
    }

    fn get_tweet_comments(&self, tweet_id: &Value) -> python::Result<Value> {
        if let Some(refusal) = self.refuse_unknown(tweet_id)? {
            return Ok(refusal);
        }
        let comments = ops::dict_for(&self.comments, "get")?.get_value(tweet_id);
        Ok(comments.cloned().unwrap_or_else(|| Value::list([])))
    }

    fn get_user_stats(&self, username: &Value) -> python::Result<Value> {
        let tweet_count = self.tweets_by(username)?.len();
        let following_count = if *username == self.username { ops::len(&self.following_list)? } else { 0 };
        let retweets = ops::dict_for(&self.retweets, "get")?;
        username.check_hashable()?;
        let retweet_count = retweets.get_value(username).map_or(Ok(0), ops::len)?;
        Ok(Value::dict([
            ("tweet_count", Value::int(tweet_count)),
            ("following_count", Value::int(following_count)),
            ("retweet_count", Value::int(retweet_count)),
        ]))
    }
}

/// `counter += 1`, for the hashable values that a scenario's counter can have been when a tweet was stored under it.
fn next_id(counter: &Value) -> python::Result<Value> {
    if counter.is_none() {
        return Err(Exception::type_error("unsupported operand type(s) for +=: 'NoneType' and 'int'"));
    }
    ops::add(counter, &Value::int(1))
}

/// `container[key].append(item)`, in place.
fn append_to_item(container: &mut Value, key: &Value, item: Value) -> python::Result<()> {
    let mut list = ops::get_item(container, key)?;
    ops::list_for(&mut list, "append")?.push(item);
    ops::set_item(container, key.clone(), list)
}

/// `text.lower()`
fn lower(text: &Value) -> python::Result<String> {
    Ok(ops::text_for(text, "lower")?.to_lowercase())
}

/// Makes an instance from a scenario, as the original's `_load_scenario` does.
pub fn create(scenario: &Dict, context: &BfclContext) -> python::Result<Box<dyn ApiClass>> {
    Ok(Box::new(TwitterApi::from_scenario(scenario, context)?))
}

impl ApiClass for TwitterApi {
    fn class_name(&self) -> &'static str {
        "TwitterAPI"
    }

    fn signatures(&self) -> &'static [Signature] {
        &SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> python::Result<Value> {
        match (method, arguments) {
            ("authenticate_twitter", [username, password]) => Ok(self.authenticate_twitter(username, password)),
            ("posting_get_login_status", []) => {
                Ok(Value::dict([("login_status", Value::Bool(self.authenticated.truthy()))]))
            }
            ("post_tweet", [content, tags, mentions]) => self.post_tweet(content, tags, mentions),
            ("retweet", [tweet_id]) => self.retweet(tweet_id),
            ("comment", [tweet_id, comment_content]) => self.comment(tweet_id, comment_content),
            ("mention", [tweet_id, mentioned_usernames]) => self.mention(tweet_id, mentioned_usernames),
            ("follow_user", [username]) => self.follow_user(username),
            ("list_all_following", []) => Ok(self.list_all_following()),
            ("unfollow_user", [username]) => self.unfollow_user(username),
            ("get_tweet", [tweet_id]) => self.get_tweet(tweet_id),
            ("get_user_tweets", [username]) => self.tweets_by(username).map(Value::list),
            ("search_tweets", [keyword]) => self.search_tweets(keyword),
            ("get_tweet_comments", [tweet_id]) => self.get_tweet_comments(tweet_id),
            ("get_user_stats", [username]) => self.get_user_stats(username),
            _ => unreachable!("{method} with {} arguments is not among the signatures", arguments.len()),
        }
    }

    fn attributes(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("username", self.username.clone()),
            ("password", self.password.clone()),
            ("authenticated", self.authenticated.clone()),
            ("tweets", self.tweets.clone()),
            ("comments", self.comments.clone()),
            ("retweets", self.retweets.clone()),
            ("following_list", self.following_list.clone()),
            ("tweet_counter", self.tweet_counter.clone()),
        ]
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::text::{repr, result_text};

    fn network(scenario: impl IntoIterator<Item = (&'static str, Value)>) -> TwitterApi {
        let scenario = scenario.into_iter().map(|(name, value)| (Value::str(name), value)).collect();
        TwitterApi::from_scenario(&scenario, &BfclContext::default()).expect("a valid scenario")
    }

    fn call(network: &mut TwitterApi, method: &str, arguments: &[Value]) -> String {
        match network.invoke(method, arguments) {
            Ok(value) => result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    fn tweet(id: i64, content: &str) -> Value {
        Value::dict([
            ("id", Value::int(id)),
            ("username", Value::str("mira")),
            ("content", Value::str(content)),
            ("tags", Value::list([Value::str("#Tide")])),
            ("mentions", Value::list([])),
        ])
    }

    #[test]
    fn posting_needs_a_login_and_mentioning_does_not() {
        let mut network = network([("tweets", Value::dict([("3", tweet(3, "Low water"))]))]);
        let post = [Value::str("hello"), Value::list([]), Value::list([])];
        assert_eq!(
            call(&mut network, "post_tweet", &post),
            r#"{"error": "User not authenticated. Please authenticate before posting."}"#
        );
        assert_eq!(
            call(&mut network, "mention", &[Value::int(3), Value::str("ab")]),
            r#"{"mention_status": "Users mentioned successfully"}"#
        );
        let shown = call(&mut network, "get_tweet", &[Value::Float(3.0)]);
        assert!(shown.ends_with(r#""mentions": ["a", "b"]}"#), "{shown}");
        assert_eq!(
            call(&mut network, "authenticate_twitter", &[Value::str("john"), Value::str("john123")]),
            r#"{"authentication_status": true}"#
        );
        assert_eq!(
            call(&mut network, "post_tweet", &post),
            r#"{"id": 0, "username": "john", "content": "hello", "tags": [], "mentions": []}"#
        );
    }

    #[test]
    fn only_the_keys_of_tweets_become_ints() {
        let comments = Value::dict([("3", Value::list([Value::str("old")]))]);
        let mut network = network([
            ("tweets", Value::dict([("3", tweet(3, "Low water"))])),
            ("comments", comments),
            ("authenticated", Value::Bool(true)),
        ]);
        assert_eq!(call(&mut network, "get_tweet_comments", &[Value::int(3)]), "[]");
        call(&mut network, "comment", &[Value::int(3), Value::str("new")]);
        assert_eq!(
            repr(network.state().get("comments").expect("an attribute")),
            "{'3': ['old'], 3: [{'username': 'john', 'content': 'new'}]}"
        );
    }

    #[test]
    fn a_tweet_stays_when_its_counter_cannot_count() {
        let mut network = network([("tweet_counter", Value::str("7")), ("authenticated", Value::int(1))]);
        let post = [Value::str("hello"), Value::list([]), Value::list([])];
        assert_eq!(
            call(&mut network, "post_tweet", &post),
            "Error during execution: can only concatenate str (not \"int\") to str"
        );
        assert_eq!(
            call(&mut network, "get_tweet", &[Value::str("7")]),
            r#"{"id": "7", "username": "john", "content": "hello", "tags": [], "mentions": []}"#
        );
    }

    #[test]
    fn search_ignores_case_and_matches_whole_tags() {
        let mut network = network([("tweets", Value::dict([("0", tweet(0, "Low WATER"))]))]);
        for (keyword, found) in [("water", true), ("#TIDE", true), ("tide", false)] {
            assert_eq!(call(&mut network, "search_tweets", &[Value::str(keyword)]) != "[]", found, "{keyword}");
        }
        assert_eq!(
            call(&mut network, "search_tweets", &[Value::int(1)]),
            "Error during execution: 'int' object has no attribute 'lower'"
        );
    }

    #[test]
    fn retweeting_twice_is_noticed() {
        let mut network =
            network([("tweets", Value::dict([("0", tweet(0, "Low water"))])), ("authenticated", Value::Bool(true))]);
        let id = [Value::int(0)];
        assert_eq!(call(&mut network, "retweet", &id), r#"{"retweet_status": "Successfully retweeted"}"#);
        assert_eq!(call(&mut network, "retweet", &id), r#"{"retweet_status": "Already retweeted"}"#);
        assert_eq!(
            call(&mut network, "get_user_stats", &[Value::str("john")]),
            r#"{"tweet_count": 0, "following_count": 2, "retweet_count": 1}"#
        );
    }

    #[test]
    fn a_scenario_with_a_wrong_id_does_not_load() {
        let scenario = [(Value::str("tweets"), Value::dict([("x", Value::None)]))].into_iter().collect();
        let error = TwitterApi::from_scenario(&scenario, &BfclContext::default()).expect_err("'x' is no int");
        assert_eq!(error.message, "invalid literal for int() with base 10: 'x'");
    }
}
