"""Images among several ranks: rows are one rank's, which the others have, too, or each rank's own."""

import base64

import msgspec
import pytest
import torch

from sendnn_pipeline.generation.image_rows import ImageRows
from sendnn_pipeline.generation.messages import PromptImage
from sendnn_pipeline.generation.row_table import FollowingTable, LeadingTable
from sendnn_pipeline.multimodal.desk import EncodedHere
from sendnn_pipeline.multimodal.row_cache import RowCache
from tests.conftest import resolved_run
from tests.multimodal.test_vision_models import reference
from tests.multimodal.vision_models import file_of, make_vision_model, picture
from tests.served import EAGER_FLOAT32, Served

IMAGE = PromptImage(b"file", b"digest", 3)


class Told:
    """A channel to one other rank, with its bytes as they travel."""

    def __init__(self, other):
        self.other, self.num_bytes = other, 0

    def tell(self, value):
        frame = msgspec.msgpack.encode(value)
        self.num_bytes += len(frame)
        self.other.obey(*msgspec.msgpack.decode(frame))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_travel_bit_for_bit_and_are_freed_in_all_ranks(dtype):
    rows = ImageRows([2, 3, 7], torch.randn(3, 5).to(dtype))
    other = FollowingTable(dtype=dtype, encoder=None)
    first = LeadingTable(channel=Told(other), each_encodes=False)
    first.give([4, 5], rows, [IMAGE])
    assert first.rows.keys() == other.rows.keys() == {4, 5}
    assert torch.equal(other.rows[5].rows, rows.rows) and list(other.rows[4].positions) == [2, 3, 7]
    first.drop(4)
    first.drop(9)
    assert first.rows.keys() == other.rows.keys() == {5}


def test_each_rank_encodes_where_rows_are_not_shared():
    encoded = []

    class Encoder:
        def encode(self, data):
            encoded.append((data, torch.get_num_threads()))
            return torch.full((3, 5), 7.0)

    other = FollowingTable(dtype=torch.float32, encoder=EncodedHere(Encoder(), RowCache(2**20), threads=3))
    before = torch.get_num_threads()
    first = LeadingTable(channel=Told(other), each_encodes=True)
    for one in (1, 2):
        first.give([one], ImageRows([0, 1, 2], torch.zeros(3, 5)), [IMAGE])
    # The second time the rows were in its cache.
    assert encoded == [(b"file", 3)] and torch.get_num_threads() == before
    assert torch.equal(other.rows[2].rows, torch.full((3, 5), 7.0))


@pytest.mark.parametrize(
    "how",
    [
        (),
        ("multimodal.async_encoder=false", "multimodal.share_across_ranks=false"),
    ],
    ids=["apart", "each"],
)
def test_two_ranks_answer_about_images_as_the_model_does(how, tmp_path):
    folder = make_vision_model(tmp_path, "mistral3")
    words = [*EAGER_FLOAT32, f"model.path={folder}", "multimodal.dtype=float32"]
    files = [file_of(picture(40, 40)), file_of(picture(64, 20, 3))]
    urls = [f"data:image/png;base64,{base64.b64encode(file).decode()}" for file in files]
    content = [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": "what?"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    ranks = ["parallel.tensor_parallel=2", "scheduler.max_num_seqs=4", "warmup.remeasure=false"]
    with Served(*words, *ranks, *how) as served:
        url = f"{served.url}/v1/chat/completions"
        answer = served.session.post(url, json=body | {"return_token_ids": True, "n": 2}).json()
        wanted, _ = reference(folder, resolved_run(words), answer["prompt_token_ids"], files, 6)
        assert [choice["token_ids"] for choice in answer["choices"]] == [wanted, wanted]
        text = served.session.post(url, json=body | {"messages": [{"role": "user", "content": "hello"}]})
        assert text.status_code == 200
        served.terminate()
        assert served.exit_code() == 0
