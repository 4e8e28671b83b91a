//! The rules of the second pass, which recognize mistakes.
//!
//! Each either raises or finds nothing; callers restore the position.

use super::{Kind, NodeId, Parsed, Parser, Raised, Rule, TokenKind, words};

impl Parser {
    /// Like [`Parser::expression`], but rules below do not look for mistakes.
    pub(super) fn expression_without_mistakes(&mut self) -> Parsed<NodeId> {
        let before = std::mem::replace(&mut self.look_for_mistakes, false);
        let result = self.valid_expression();
        self.look_for_mistakes = before;
        result
    }

    pub(super) fn is_legacy_statement(&self, id: NodeId) -> bool {
        matches!(self.tree.kind(id), Kind::Name { name, .. } if name == "print" || name == "exec")
    }

    pub(super) fn invalid_expression(&mut self) -> std::result::Result<(), Raised> {
        let start = self.position;
        let first = self.token()?;
        let mut excluded = false;
        if first.kind == TokenKind::Name {
            excluded = words::is_soft_keyword(&self.text(first));
            if !excluded {
                self.position += 1;
                excluded = self.token()?.kind == TokenKind::String;
                self.position = start;
            }
        }
        if !excluded {
            if let Some(left) = self.disjunction()?
                && self.expression_without_mistakes()?.is_some()
            {
                let nested = self.tokens[self.position - 1].level > 0;
                if nested && !self.is_legacy_statement(left) {
                    let line = self.tree.line(left);
                    return Err(self.raise(line, "invalid syntax. Perhaps you forgot a comma?"));
                }
            }
            self.position = start;
        }
        if let Some(body) = self.disjunction()?
            && self.accept("if")?
            && self.disjunction()?.is_some()
            && !self.is_any(&["else", ":"])?
        {
            let line = self.tree.line(body);
            return Err(self.raise(line, "expected 'else' after 'if' expression"));
        }
        Ok(())
    }

    pub(super) fn invalid_legacy_expression(&mut self) -> std::result::Result<(), Raised> {
        if let Some(name) = self.name()?
            && !self.is("(")?
            && self.star_expressions()?.is_some()
            && self.is_legacy_statement(name)
            && let Kind::Name { name: word, .. } = self.tree.kind(name)
        {
            let message = format!("Missing parentheses in call to '{word}'. Did you mean {word}(...)?");
            return Err(self.raise(self.tree.line(name), message));
        }
        Ok(())
    }

    pub(super) fn invalid_named_expression(&mut self) -> Parsed<NodeId> {
        self.memo(Rule::InvalidNamedExpression, |parser| {
            let start = parser.position;
            if let Some(target) = parser.expression()?
                && parser.accept(":=")?
                && parser.expression()?.is_some()
            {
                let message = format!("cannot use assignment expressions with {}", parser.tree.describe(target));
                return Err(parser.raise(parser.tree.line(target), message));
            }
            parser.position = start;
            if let Some(name) = parser.name()?
                && parser.accept("=")?
                && parser.bitwise_or()?.is_some()
                && !parser.is_any(&["=", ":="])?
            {
                let line = parser.tree.line(name);
                return Err(parser.raise(line, "invalid syntax. Maybe you meant '==' or ':=' instead of '='?"));
            }
            parser.position = start;
            let excluded = [Self::list, Self::tuple, Self::generator];
            for rule in excluded {
                let found = rule(parser)?.is_some();
                parser.position = start;
                if found {
                    return Ok(None);
                }
            }
            if parser.is_any(&["True", "None", "False"])? {
                return Ok(None);
            }
            if let Some(target) = parser.bitwise_or()?
                && parser.accept("=")?
                && parser.bitwise_or()?.is_some()
                && !parser.is_any(&["=", ":="])?
            {
                let message = format!(
                    "cannot assign to {} here. Maybe you meant '==' instead of '='?",
                    parser.tree.describe(target)
                );
                return Err(parser.raise(parser.tree.line(target), message));
            }
            Ok(None)
        })
    }

    pub(super) fn invalid_group(&mut self) -> std::result::Result<(), Raised> {
        let start = self.position;
        if !self.accept("(")? {
            return Ok(());
        }
        let line = self.line()?;
        if self.starred_expression()?.is_some() && self.accept(")")? {
            return Err(self.raise(line, "cannot use starred expression here"));
        }
        self.position = start + 1;
        if self.accept("**")? && self.expression()?.is_some() && self.accept(")")? {
            return Err(self.raise(line, "cannot use double starred expression here"));
        }
        Ok(())
    }

    pub(super) fn invalid_comprehension(&mut self) -> std::result::Result<(), Raised> {
        let start = self.position;
        if !self.is_any(&["[", "(", "{"])? {
            return Ok(());
        }
        let round = self.is("(")?;
        self.position += 1;
        let line = self.line()?;
        if self.starred_expression()?.is_some() && self.clauses()?.is_some() {
            return Err(self.raise(line, "iterable unpacking cannot be used in comprehension"));
        }
        if round {
            return Ok(());
        }
        const FORGOTTEN: &str = "did you forget parentheses around the comprehension target?";
        self.position = start + 1;
        if self.star_named_expression()?.is_some()
            && self.accept(",")?
            && self.star_named_expressions()?.is_some()
            && self.clauses()?.is_some()
        {
            return Err(self.raise(line, FORGOTTEN));
        }
        self.position = start + 1;
        if self.star_named_expression()?.is_some() && self.accept(",")? && self.clauses()?.is_some() {
            return Err(self.raise(line, FORGOTTEN));
        }
        Ok(())
    }

    pub(super) fn invalid_double_starred_pairs(&mut self) -> std::result::Result<(), Raised> {
        let start = self.position;
        if self.list_of(Self::double_starred_pair)?.is_some() && self.accept(",")? {
            let before = self.position;
            if let Some(key) = self.expression()?
                && !self.is(":")?
            {
                return Err(self.raise(self.tree.line(key), "':' expected after dictionary key"));
            }
            self.position = before;
            self.invalid_pair_value()?;
        }
        self.position = start;
        self.invalid_pair_value()
    }

    pub(super) fn invalid_pair_value(&mut self) -> std::result::Result<(), Raised> {
        if self.expression()?.is_none() {
            return Ok(());
        }
        let colon = self.line()?;
        if !self.accept(":")? {
            return Ok(());
        }
        let before = self.position;
        let line = self.line()?;
        if self.accept("*")? && self.bitwise_or()?.is_some() {
            return Err(self.raise(line, "cannot use a starred expression in a dictionary value"));
        }
        self.position = before;
        if self.is_any(&["}", ","])? {
            return Err(self.raise(colon, "expression expected after dictionary key and ':'"));
        }
        Ok(())
    }

    pub(super) fn invalid_keyword(&mut self) -> std::result::Result<(), Raised> {
        let start = self.position;
        let line = self.line()?;
        if let TokenKind::Fixed(constant @ ("True" | "False" | "None")) = self.token()?.kind {
            self.position += 1;
            if self.is("=")? {
                return Err(self.raise(line, format!("cannot assign to {constant}")));
            }
        }
        self.position = start;
        if self.name_text()?.is_some() && self.accept("=")? {
            if self.expression()?.is_some() && self.clauses()?.is_some() {
                return Err(self.raise(line, "invalid syntax. Maybe you meant '==' or ':=' instead of '='?"));
            }
            return Ok(());
        }
        self.position = start;
        if self.expression()?.is_some() && self.is("=")? {
            return Err(self.raise(line, "expression cannot contain assignment, perhaps you meant \"==\"?"));
        }
        Ok(())
    }

    pub(super) fn invalid_arguments(&mut self) -> std::result::Result<(), Raised> {
        const PARENTHESIZE: &str = "Generator expression must be parenthesized";
        let start = self.position;
        let line = self.line()?;
        let mut found = self.list_of(Self::positional_argument)?.is_some()
            && self.accept(",")?
            && self.keyword_arguments()?.is_some();
        if !found {
            self.position = start;
            found = self.keyword_arguments()?.is_some();
        }
        if found && self.accept(",")? {
            let star = self.line()?;
            if self.accept("*")? {
                return Err(self.raise(star, "iterable argument unpacking follows keyword argument unpacking"));
            }
        }
        self.position = start;
        if self.expression()?.is_some() && self.clauses()?.is_some() && self.accept(",")? {
            // What follows is read as far as it goes, because reading may raise.
            if self.argument_list()?.is_none() {
                let before = self.position;
                if self.expression()?.is_some() {
                    self.clauses()?;
                }
                self.position = before;
            }
            return Err(self.raise(line, PARENTHESIZE));
        }
        self.position = start;
        if self.name_text()?.is_some() && self.accept("=")? && self.expression()?.is_some() && self.clauses()?.is_some()
        {
            return Err(self.raise(line, "invalid syntax. Maybe you meant '==' or ':=' instead of '='?"));
        }
        self.position = start;
        if let Some(arguments) = self.argument_list()?
            && self.clauses()?.is_some()
        {
            let (positional, _) = self.argument_lists(arguments);
            if let [_, .., last] = positional[..] {
                return Err(self.raise(self.tree.line(last), PARENTHESIZE));
            }
        }
        self.position = start;
        if self.argument_list()?.is_some() && self.accept(",")? {
            let line = self.line()?;
            if self.expression()?.is_some() && self.clauses()?.is_some() {
                return Err(self.raise(line, PARENTHESIZE));
            }
        }
        self.position = start;
        if let Some(arguments) = self.argument_list()?
            && self.accept(",")?
            && self.argument_list()?.is_some()
        {
            let (_, keywords) = self.argument_lists(arguments);
            let unpacks = keywords.iter().any(|keyword| keyword.name.is_none());
            let what = if unpacks { " unpacking" } else { "" };
            return Err(self.raise_here(format!("positional argument follows keyword argument{what}")));
        }
        Ok(())
    }
}
