//! Errors that CPython finds in a tree after parsing, before anything runs.

use super::tokenizer::Problem;
use super::tree::{ComprehensionKind, Kind, NodeId, Tree};

/// Checks names and scopes first, then the rest in the order in which code is made, as CPython does.
pub(super) fn check(tree: &Tree, root: NodeId) -> Result<(), Problem> {
    let mut scopes = Scopes { tree, targets: Vec::new() };
    scopes.visit(root)?;
    Code { tree, in_function: false, may_await: false }.visit(root)
}

fn problem(tree: &Tree, id: NodeId, message: impl Into<String>) -> Problem {
    Problem { message: message.into(), line: tree.line(id) }
}

struct Scopes<'a> {
    tree: &'a Tree,
    /// Iteration variables of the comprehensions around.
    targets: Vec<&'a str>,
}

impl<'a> Scopes<'a> {
    fn visit(&mut self, id: NodeId) -> Result<(), Problem> {
        match self.tree.kind(id) {
            Kind::Lambda { parameters, .. } => {
                let mut names: Vec<&str> = Vec::new();
                for name in parameters.iter().filter_map(|parameter| parameter.name.as_deref()) {
                    if names.contains(&name) {
                        let message = format!("duplicate argument '{name}' in function definition");
                        return Err(problem(self.tree, id, message));
                    }
                    names.push(name);
                }
            }
            Kind::Comprehension { kind, element, value, clauses } => {
                let count = self.targets.len();
                for (index, clause) in clauses.iter().enumerate() {
                    if let Some(named) = self.find(clause.iterable, |kind| matches!(kind, Kind::Named { .. })) {
                        let message = "assignment expression cannot be used in a comprehension iterable expression";
                        return Err(problem(self.tree, named, message));
                    }
                    if index == 0 {
                        self.visit(clause.iterable)?;
                    }
                }
                for (index, clause) in clauses.iter().enumerate() {
                    self.add_targets(clause.target);
                    if index > 0 {
                        self.visit(clause.iterable)?;
                    }
                    clause.conditions.iter().try_for_each(|&condition| self.visit(condition))?;
                }
                for &part in [Some(element), value.as_ref()].iter().flatten() {
                    if let Some(found) = self.find(*part, |kind| matches!(kind, Kind::Yield(_) | Kind::YieldFrom(_))) {
                        let place = match kind {
                            ComprehensionKind::List => "list comprehension",
                            ComprehensionKind::Set => "set comprehension",
                            ComprehensionKind::Dict => "dict comprehension",
                            ComprehensionKind::Generator => "generator expression",
                        };
                        return Err(problem(self.tree, found, format!("'yield' inside {place}")));
                    }
                    self.visit(*part)?;
                }
                self.targets.truncate(count);
                return Ok(());
            }
            Kind::Named { target, .. } => {
                if let Kind::Name { name, .. } = self.tree.kind(*target)
                    && self.targets.contains(&name.as_str())
                {
                    let message =
                        format!("assignment expression cannot rebind comprehension iteration variable '{name}'");
                    return Err(problem(self.tree, id, message));
                }
            }
            _ => {}
        }
        let mut result = Ok(());
        Tree::children(self.tree.kind(id), &mut |child| {
            if result.is_ok() {
                result = self.visit(child);
            }
        });
        result
    }

    /// The first node below (or at) `id` that is such, lambdas left out.
    fn find(&self, id: NodeId, is_such: fn(&Kind) -> bool) -> Option<NodeId> {
        let kind = self.tree.kind(id);
        if is_such(kind) {
            return Some(id);
        }
        if matches!(kind, Kind::Lambda { .. }) {
            return None;
        }
        let mut found = None;
        Tree::children(kind, &mut |child| {
            if found.is_none() {
                found = self.find(child, is_such);
            }
        });
        found
    }

    fn add_targets(&mut self, id: NodeId) {
        match self.tree.kind(id) {
            Kind::Name { name, .. } => self.targets.push(name),
            Kind::List(items) | Kind::Tuple(items) => items.iter().for_each(|&item| self.add_targets(item)),
            Kind::Starred(value) => self.add_targets(*value),
            _ => {}
        }
    }
}

struct Code<'a> {
    tree: &'a Tree,
    in_function: bool,
    /// Inside a generator expression, which becomes an asynchronous one.
    may_await: bool,
}

impl Code<'_> {
    fn visit(&mut self, id: NodeId) -> Result<(), Problem> {
        let outside = |what: &str| Err(problem(self.tree, id, format!("'{what}' outside function")));
        match self.tree.kind(id) {
            Kind::Call { function, positional, keywords } => {
                function.iter().try_for_each(|&function| self.visit(function))?;
                let mut seen = rustc_hash::FxHashSet::default();
                // Nearly always false: spares comparing each name with each.
                let repeats =
                    !keywords.iter().filter_map(|keyword| keyword.name.as_ref()).all(|name| seen.insert(name));
                for (index, keyword) in keywords.iter().enumerate() {
                    let Some(name) = &keyword.name else { continue };
                    if name == "__debug__" {
                        return Err(Problem { message: "cannot assign to __debug__".into(), line: keyword.line });
                    }
                    let later = if repeats { &keywords[index + 1..] } else { &[] };
                    if let Some(again) = later.iter().find(|other| other.name.as_ref() == Some(name)) {
                        let message = format!("keyword argument repeated: {name}");
                        return Err(Problem { message, line: again.line });
                    }
                }
                positional.iter().try_for_each(|&argument| self.visit(argument))?;
                return keywords.iter().try_for_each(|keyword| self.visit(keyword.value));
            }
            Kind::Yield(_) | Kind::YieldFrom(_) if !self.in_function => return outside("yield"),
            Kind::Await(_) if self.may_await => {}
            Kind::Await(_) if !self.in_function => return outside("await"),
            Kind::Await(_) => return Err(problem(self.tree, id, "'await' outside async function")),
            Kind::Lambda { parameters, body } => {
                parameters.iter().filter_map(|parameter| parameter.default).try_for_each(|id| self.visit(id))?;
                return Code { tree: self.tree, in_function: true, may_await: false }.visit(*body);
            }
            Kind::Comprehension { kind, element, value, clauses } => {
                let parts = [Some(element), value.as_ref()].into_iter().flatten();
                let conditions = clauses.iter().flat_map(|clause| &clause.conditions);
                let is_async = clauses.iter().any(|clause| clause.is_async)
                    || parts.chain(conditions).any(|&part| self.awaits(part));
                if is_async && *kind != ComprehensionKind::Generator {
                    let message = "asynchronous comprehension outside of an asynchronous function";
                    return Err(problem(self.tree, id, message));
                }
                let mut inside = Code { tree: self.tree, in_function: true, may_await: true };
                for (index, clause) in clauses.iter().enumerate() {
                    if index == 0 {
                        self.visit(clause.iterable)?
                    } else {
                        inside.visit(clause.iterable)?
                    }
                    if matches!(self.tree.kind(clause.target), Kind::Starred(_)) {
                        let message = "starred assignment target must be in a list or tuple";
                        return Err(problem(self.tree, clause.target, message));
                    }
                    inside.visit(clause.target)?;
                    clause.conditions.iter().try_for_each(|&condition| inside.visit(condition))?;
                }
                inside.visit(*element)?;
                return value.iter().try_for_each(|&value| inside.visit(value));
            }
            Kind::Named { target, .. } => {
                if matches!(self.tree.kind(*target), Kind::Name { name, .. } if name == "__debug__") {
                    return Err(problem(self.tree, *target, "cannot assign to __debug__"));
                }
            }
            _ => {}
        }
        let mut result = Ok(());
        Tree::children(self.tree.kind(id), &mut |child| {
            if result.is_ok() {
                result = self.visit(child);
            }
        });
        result
    }

    fn awaits(&self, id: NodeId) -> bool {
        if matches!(self.tree.kind(id), Kind::Await(_)) {
            return true;
        }
        let mut found = false;
        Tree::children(self.tree.kind(id), &mut |child| found = found || self.awaits(child));
        found
    }
}
