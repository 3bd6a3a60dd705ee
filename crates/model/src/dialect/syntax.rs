//! What is wrong with text that is no YAML, in words of ours: the parser's may quote the text, which may be a
//! Secret.

use serde_saphyr::Error as Yaml;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;

/// Returns what the parser did not like. `ours` is what a visitor of ours may have said.
pub(super) fn problem(error: &Yaml, ours: &[&'static str]) -> &'static str {
    let mut cause = error;
    while let Yaml::AliasError { error, .. } | Yaml::WithSnippet { error, .. } = cause {
        cause = error;
    }
    match cause {
        Yaml::DuplicateMappingKey { .. } => KEY_TWICE,
        Yaml::Message { msg, .. } => {
            ours.iter().copied().find(|ours| msg == ours).unwrap_or(INVALID)
        }
        Yaml::Budget { .. }
        | Yaml::AliasReplayCounterOverflow { .. }
        | Yaml::AliasReplayLimitExceeded { .. }
        | Yaml::AliasExpansionLimitExceeded { .. }
        | Yaml::AliasReplayStackDepthExceeded { .. } => TOO_MUCH,
        Yaml::RecursiveReferencesRequireWeakTypes { .. } => "an alias contains itself",
        Yaml::UnknownAnchor { .. } => NO_ANCHOR,
        Yaml::MergeValueNotMapOrSeqOfMaps { .. } => {
            "what `<<` takes in is a mapping, or a list of mappings"
        }
        Yaml::UnsupportedTag { .. } => TAG,
        Yaml::ExternalMessage { source, .. } => match source.as_ref() {
            ExternalMessageSource::Parser(error) => of_parser(error.kind()),
            _ => INVALID,
        },
        _ => INVALID,
    }
}

fn of_parser(kind: &ErrorKind) -> &'static str {
    use ErrorKind as Kind;

    match kind {
        Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabAtBlockScalarStart
        | Kind::TabInIndentation
        | Kind::TabInPlainScalar => "a tab stands where only spaces may: indent with spaces",
        Kind::InvalidIndentation
        | Kind::ExpectedBlockMappingKey
        | Kind::ExpectedBlockSequenceEntry
        | Kind::InvalidBlockScalarIndent
        | Kind::InvalidFlowScalarIndent
        | Kind::UnexpectedEofBlockMapping
        | Kind::UnexpectedEofBlockSequence => {
            "the indentation fits none of the lines above: what belongs together begins in one column"
        }
        Kind::BlockSequenceEntryNotAllowed | Kind::BlockEntryInFlowCollection => {
            "a list's `- ` stands where no list can begin: put it on a line of its own"
        }
        Kind::UnclosedQuotedScalar
        | Kind::DocumentIndicatorInQuotedScalar
        | Kind::InvalidQuotedScalarIndent => {
            "a quote is opened above and not closed, or quoted text goes on too far to the left"
        }
        Kind::InvalidTrailingSingleQuotedScalar | Kind::InvalidTrailingDoubleQuotedScalar => {
            "something stands behind a closing quote: a quote within single quotes is written twice, one \
             within double quotes with a backslash"
        }
        Kind::UnknownQuotedScalarEscape
        | Kind::InvalidQuotedScalarHexEscape
        | Kind::InvalidLowSurrogateHexEscape
        | Kind::InvalidLowSurrogate
        | Kind::MissingLowSurrogate
        | Kind::UnpairedLowSurrogate
        | Kind::InvalidUnicodeEscape => {
            "a backslash within double quotes begins no character: write it twice, or use single quotes"
        }
        Kind::UnclosedFlowCollection { open: '[' } | Kind::UnexpectedEofFlowSequence => {
            "a `[` is opened and not closed"
        }
        Kind::UnclosedFlowCollection { .. }
        | Kind::UnexpectedEofFlowMapping
        | Kind::UnexpectedEofImplicitFlowMapping => "a `{` is opened and not closed",
        Kind::ExpectedFlowMappingSeparator => "a comma or the closing `}` is missing",
        Kind::ExpectedFlowSequenceSeparator => "a comma or the closing `]` is missing",
        Kind::MisplacedFlowCollectionEnd | Kind::MismatchedFlowCollectionEnd { .. } => {
            "a bracket is closed that was not opened, or another one was"
        }
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => {
            "a line of a mapping has no `: ` behind its key, or is indented like one"
        }
        Kind::MappingValueNotAllowed | Kind::InvalidColonPlacement | Kind::MappingKeyNotAllowed => {
            "a `: ` stands where no key can be: put text that has one into quotes; else the indentation is \
             not that of the lines above, or a bracket there is not closed"
        }
        other => of_signs(other),
    }
}

/// Tells of what begins with a sign of its own: comments, aliases, tags, block scalars, directives.
fn of_signs(kind: &ErrorKind) -> &'static str {
    use ErrorKind as Kind;

    match kind {
        Kind::UnknownAnchor => NO_ANCHOR,
        Kind::MissingAnchorOrAliasName => {
            "a `&` or `*` has no name behind it: put text that begins so into quotes"
        }
        Kind::UnexpectedCharacter { .. } => {
            "text begins with a sign that YAML keeps for itself, such as @ or %: put it into quotes"
        }
        Kind::CommentNotSeparated | Kind::CommentInterceptedScalar => {
            "a comment needs a space before its `#`, and text cannot go on behind one"
        }
        Kind::ZeroBlockScalarIndent | Kind::InvalidBlockScalarHeader => {
            "behind `|` or `>` may stand `-`, `+` and a digit, and then a new line"
        }
        Kind::UndeclaredTagHandle
        | Kind::ExpectedTagBang
        | Kind::InvalidTagTerminator
        | Kind::MissingTagUri
        | Kind::UnclosedVerbatimTag
        | Kind::InvalidTagEscape => TAG,
        Kind::MissingDirectiveName
        | Kind::InvalidDirectiveName
        | Kind::InvalidDirectiveTerminator
        | Kind::MissingYamlVersion
        | Kind::MissingYamlVersionSeparator
        | Kind::UnsupportedYamlMajorVersion
        | Kind::MissingDocumentEndBeforeDirective
        | Kind::ExpectedDocumentStart
        | Kind::InvalidDocumentEnd => {
            "a document does not begin or end as one: `---` stands on a line of its own"
        }
        Kind::RecursionLimitExceeded => TOO_MUCH,
        _ => INVALID,
    }
}

/// Both our own error inside the parser and what becomes of the parser's.
pub(super) const KEY_TWICE: &str = "a key stands twice in one mapping";

const INVALID: &str = "this is not valid YAML or JSON";

const NO_ANCHOR: &str =
    "an alias (`*…`) has no anchor (`&…`) above it: put text that begins so into quotes";

const TAG: &str = "a tag (`!…`) is not known: put text that begins so into quotes";

const TOO_MUCH: &str = "too much nesting, too many values or too many aliases";
