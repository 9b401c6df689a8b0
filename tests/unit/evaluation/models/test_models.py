"""The plain arrays compute what scikit-learn computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from evaluation.models.extra_trees import Forest, grow
from evaluation.models.linear import Linear, fit_log_odds, fit_ridge
from evaluation.models.query_features import NAMES, query_shape
from evaluation.models.tfidf import Vocabulary, learn_vocabulary
from evaluation.models.tokenizer import READ_CHARS, tokens_of
from evaluation.training.fit import _fit_words
from tests.unit.evaluation.synthetic_data import outcome_lines

TEXTS = [line["query"] for line in outcome_lines(120)]
TOKENS = [tokens_of(text) for text in TEXTS]


def test_weights_are_those_of_scikit_learns_vectorizer() -> None:
    theirs = TfidfVectorizer(
        tokenizer=tokens_of, token_pattern=None, lowercase=False, ngram_range=(1, 2), min_df=3, sublinear_tf=True
    )
    expected = theirs.fit_transform(TEXTS)
    ours = learn_vocabulary(TOKENS, min_texts=3)
    assert ours.size == len(theirs.vocabulary_)
    got = ours.weigh(TEXTS)
    words = list(ours.words)
    names = [*words, *(f"{words[key // len(words)]} {words[key % len(words)]}" for key in ours.pairs)]
    order = [theirs.vocabulary_[name] for name in names]
    assert np.allclose(got.toarray(), expected.toarray()[:, order])


def test_a_vocabulary_survives_being_stored() -> None:
    ours = learn_vocabulary([[*tokens, "\n", "\u4f60"] for tokens in TOKENS])
    again = Vocabulary.from_arrays(ours.parts())
    assert again.words == ours.words
    assert np.allclose(again.weigh(TEXTS).toarray(), ours.weigh(TEXTS).toarray(), atol=1e-6)


@pytest.mark.parametrize("texts", [[], [""], ["", "zzz", ""]])
def test_texts_without_a_known_word_weigh_nothing(texts: list[str]) -> None:
    rows = learn_vocabulary(TOKENS).weigh(texts)
    assert rows.shape[0] == len(texts)
    assert rows.nnz == 0


def test_a_vocabulary_without_a_word_can_be_learned_and_fitted() -> None:
    empty = [[f"word{place}"] for place in range(60)]
    labels = np.tile([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], (20, 1))
    words = _fit_words(empty, labels, None)
    told = words.linear(words.vocabulary.weigh_tokens(empty))
    assert told[0] == pytest.approx(np.log([2.0, 2.0]))


def test_a_forest_predicts_as_the_one_it_was_made_of() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 6)).astype(np.float32).astype(np.float64)
    y = np.column_stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0]).astype(float)
    ours = grow(x, y, trees=12, depth=7, min_leaf=4, seed=3)
    theirs = ExtraTreesRegressor(12, max_depth=7, min_samples_leaf=4, max_features=0.4, random_state=3).fit(x, y)
    fresh = random.normal(size=(200, 6))
    assert np.allclose(ours.predict(fresh), theirs.predict(fresh), atol=1e-6)
    assert np.array_equal(Forest.from_arrays(ours.parts()).predict(fresh), ours.predict(fresh))


def test_ridge_regression_is_that_of_scikit_learn() -> None:
    rows = learn_vocabulary(TOKENS).weigh(TEXTS)
    targets = np.random.default_rng(0).normal(size=(len(TEXTS), 3))
    centred = targets - targets.mean(axis=0)
    theirs = Ridge(alpha=0.5, fit_intercept=False, solver="cholesky").fit(rows.toarray(), centred)
    ours = fit_ridge(rows, targets, penalty=0.5, steps=400)
    assert np.allclose(ours(rows), theirs.predict(rows.toarray()) + targets.mean(axis=0), atol=0.03)


def test_a_grade_between_counts_as_that_share_of_a_success() -> None:
    rows = sparse.csr_matrix(np.eye(4))
    linear: Linear = fit_log_odds(rows, np.array([[1.0], [0.0], [0.75], [0.5]]), c=100.0)
    told = linear(rows)[:, 0]
    assert told[0] > told[2] > told[3] > told[1]


def test_a_tier_that_always_answers_well_is_likely_to_do_so_again() -> None:
    linear = fit_log_odds(sparse.csr_matrix(np.eye(5)), np.ones((5, 1)), c=1.0)
    assert np.all(linear(sparse.csr_matrix(np.eye(5))) == 4.0)


@pytest.mark.parametrize("grade", [0.2, 0.5, 0.8])
def test_a_tier_that_always_earns_the_same_grade_is_likely_to_do_so_again(grade: float) -> None:
    rows = sparse.csr_matrix(np.tile(np.eye(5), (100, 1)))
    told = fit_log_odds(rows, np.full((500, 1), grade), c=1.0)(rows)
    assert 1 / (1 + np.exp(-told)) == pytest.approx(np.full((500, 1), grade), abs=0.02)


def test_tokens_tell_numbers_by_their_length_and_keep_punctuation_and_lines() -> None:
    assert tokens_of("Add 12, 7\nand 123456!") == ["add", "#2", ",", "#1", "\n", "and", "#5", "!"]


def test_each_character_of_a_script_without_spaces_is_a_token() -> None:
    assert tokens_of("你好 abc") == ["你", "好", "abc"]


def test_of_a_very_long_text_the_head_and_the_tail_are_read() -> None:
    tokens = tokens_of("first " + "x " * READ_CHARS + " last")
    assert (tokens[0], tokens[-1]) == ("first", "last")
    assert len(tokens) < READ_CHARS


@given(st.lists(st.text(max_size=80), max_size=5))
def test_any_text_has_a_finite_shape(texts: list[str]) -> None:
    shape = query_shape(texts, [tokens_of(text) for text in texts])
    assert shape.shape == (len(texts), len(NAMES))
    assert np.all(np.isfinite(shape))


def test_the_shape_sees_choices_and_numbers() -> None:
    text = "How many?\nA. 12\nB. 7.5\nC. none of these"
    shape = dict(zip(NAMES, query_shape([text], [tokens_of(text)])[0].tolist(), strict=True))
    assert (shape["choices"], shape["numeric choices"], shape["says how many"]) == (3, 2, 1)
