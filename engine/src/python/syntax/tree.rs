//! The syntax tree of an expression.

use std::sync::Arc;

use num_bigint::BigInt;

/// Index of a node in its [`Tree`].
pub(in crate::python) type NodeId = u32;

/// A value written down.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::python) enum Constant {
    None,
    Bool(bool),
    Ellipsis,
    Int(BigInt),
    Float(f64),
    /// The imaginary part of `2j`.
    Imaginary(f64),
    /// `prefixed`: written with a `u`, which `ast.unparse` keeps.
    Str {
        text: Arc<str>,
        prefixed: bool,
    },
    Bytes(Vec<u8>),
}

/// A `name=value` or `**value` argument.
#[derive(Clone, Debug)]
pub(in crate::python) struct Keyword {
    pub name: Option<String>,
    pub value: NodeId,
    pub line: usize,
}

/// One parameter of a `lambda`, with its default; `star` is `""`, `"*"`, `"**"`, or `"/"` and a lone `"*"` without name.
#[derive(Clone, Debug)]
pub(in crate::python) struct LambdaParameter {
    pub star: &'static str,
    pub name: Option<String>,
    pub default: Option<NodeId>,
}

/// A `for … in … if …` of a comprehension.
#[derive(Clone, Debug)]
pub(in crate::python) struct Clause {
    pub is_async: bool,
    pub target: NodeId,
    pub iterable: NodeId,
    pub conditions: Vec<NodeId>,
}

/// Which comprehension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::python) enum ComprehensionKind {
    List,
    Set,
    Dict,
    Generator,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(in crate::python) enum Kind {
    Constant(Constant),
    /// `called`: an opening bracket follows at once, which is how the harness finds method names.
    Name {
        name: String,
        called: bool,
    },
    /// An f-string: its literal parts joined (meaningful only without expressions), and its expressions.
    Format {
        text: String,
        expressions: Vec<NodeId>,
    },
    Call {
        /// `None` only while arguments are read.
        function: Option<NodeId>,
        positional: Vec<NodeId>,
        keywords: Vec<Keyword>,
    },
    Attribute {
        value: NodeId,
        name: String,
    },
    Subscript {
        value: NodeId,
        index: NodeId,
    },
    Slice {
        lower: Option<NodeId>,
        upper: Option<NodeId>,
        step: Option<NodeId>,
    },
    Starred(NodeId),
    List(Vec<NodeId>),
    Tuple(Vec<NodeId>),
    Set(Vec<NodeId>),
    /// A key of `None` is `**value`.
    Dict(Vec<(Option<NodeId>, NodeId)>),
    Unary {
        operator: &'static str,
        operand: NodeId,
    },
    Binary {
        operator: &'static str,
        left: NodeId,
        right: NodeId,
    },
    Boolean {
        operator: &'static str,
        operands: Vec<NodeId>,
    },
    Compare {
        left: NodeId,
        rest: Vec<(&'static str, NodeId)>,
    },
    Conditional {
        test: NodeId,
        body: NodeId,
        otherwise: NodeId,
    },
    Lambda {
        parameters: Vec<LambdaParameter>,
        body: NodeId,
    },
    Comprehension {
        kind: ComprehensionKind,
        element: NodeId,
        /// The value of a dict's entry.
        value: Option<NodeId>,
        clauses: Vec<Clause>,
    },
    Named {
        target: NodeId,
        value: NodeId,
    },
    Await(NodeId),
    Yield(Option<NodeId>),
    YieldFrom(NodeId),
}

/// A node and the line on which it starts.
#[derive(Clone, Debug)]
pub(in crate::python) struct Node {
    pub kind: Kind,
    pub line: usize,
    /// Height of the tree below, so that walking it cannot exhaust the stack.
    pub height: usize,
}

/// All nodes made while parsing, those of abandoned attempts too.
#[derive(Clone, Debug, Default)]
pub(in crate::python) struct Tree(pub Vec<Node>);

impl Tree {
    pub fn kind(&self, id: NodeId) -> &Kind {
        &self.0[id as usize].kind
    }

    pub fn line(&self, id: NodeId) -> usize {
        self.0[id as usize].line
    }

    /// Calls `visit` with each child, in the order of the text (nearly).
    pub fn children(kind: &Kind, visit: &mut dyn FnMut(NodeId)) {
        match kind {
            Kind::Constant(_) | Kind::Name { .. } => {}
            Kind::Format { expressions: items, .. }
            | Kind::List(items)
            | Kind::Tuple(items)
            | Kind::Set(items)
            | Kind::Boolean { operands: items, .. } => items.iter().copied().for_each(visit),
            Kind::Call { function, positional, keywords } => {
                function.iter().copied().for_each(&mut *visit);
                positional.iter().copied().for_each(&mut *visit);
                keywords.iter().for_each(|keyword| visit(keyword.value));
            }
            Kind::Attribute { value, .. } | Kind::Starred(value) | Kind::Await(value) | Kind::YieldFrom(value) => {
                visit(*value);
            }
            Kind::Subscript { value: a, index: b }
            | Kind::Binary { left: a, right: b, .. }
            | Kind::Named { target: a, value: b } => {
                visit(*a);
                visit(*b);
            }
            Kind::Slice { lower, upper, step } => [lower, upper, step].into_iter().flatten().copied().for_each(visit),
            Kind::Dict(entries) => entries.iter().for_each(|&(key, value)| {
                key.into_iter().for_each(&mut *visit);
                visit(value);
            }),
            Kind::Unary { operand, .. } => visit(*operand),
            Kind::Compare { left, rest } => {
                visit(*left);
                rest.iter().for_each(|&(_, operand)| visit(operand));
            }
            Kind::Conditional { test, body, otherwise } => [*test, *body, *otherwise].into_iter().for_each(visit),
            Kind::Lambda { parameters, body } => {
                parameters.iter().filter_map(|parameter| parameter.default).for_each(&mut *visit);
                visit(*body);
            }
            Kind::Comprehension { element, value, clauses, .. } => {
                for clause in clauses {
                    visit(clause.iterable);
                    visit(clause.target);
                    clause.conditions.iter().copied().for_each(&mut *visit);
                }
                visit(*element);
                value.iter().copied().for_each(visit);
            }
            Kind::Yield(value) => value.iter().copied().for_each(visit),
        }
    }

    /// What Python calls such an expression in `cannot assign to …`.
    pub fn describe(&self, id: NodeId) -> &'static str {
        match self.kind(id) {
            Kind::Constant(Constant::None) => "None",
            Kind::Constant(Constant::Bool(true)) => "True",
            Kind::Constant(Constant::Bool(false)) => "False",
            Kind::Constant(Constant::Ellipsis) => "ellipsis",
            Kind::Constant(_) => "literal",
            Kind::Name { .. } => "name",
            Kind::Format { .. } => "f-string expression",
            Kind::Call { .. } => "function call",
            Kind::Attribute { .. } => "attribute",
            Kind::Subscript { .. } => "subscript",
            Kind::Slice { .. } => "slice",
            Kind::Starred(_) => "starred",
            Kind::List(_) => "list",
            Kind::Tuple(_) => "tuple",
            Kind::Set(_) => "set display",
            Kind::Dict(_) => "dict literal",
            Kind::Unary { .. } | Kind::Binary { .. } | Kind::Boolean { .. } => "expression",
            Kind::Compare { .. } => "comparison",
            Kind::Conditional { .. } => "conditional expression",
            Kind::Lambda { .. } => "lambda",
            Kind::Comprehension { kind: ComprehensionKind::List, .. } => "list comprehension",
            Kind::Comprehension { kind: ComprehensionKind::Set, .. } => "set comprehension",
            Kind::Comprehension { kind: ComprehensionKind::Dict, .. } => "dict comprehension",
            Kind::Comprehension { kind: ComprehensionKind::Generator, .. } => "generator expression",
            Kind::Named { .. } => "named expression",
            Kind::Await(_) => "await expression",
            Kind::Yield(_) | Kind::YieldFrom(_) => "yield expression",
        }
    }
}
