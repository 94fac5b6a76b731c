# SPDX-License-Identifier: MIT
"""How similar two documents are, as a service: MLServer's guide, with a smaller language model."""

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from smls_node import MLModel, decode_args


class MyKulModel(MLModel):
    async def load(self):
        # The hashes of the words, and of their beginnings and ends: nothing to train or download.
        self.model = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 6))

    @decode_args
    async def predict(self, docs: list[str]) -> np.ndarray:
        doc1, doc2 = self.model.transform(docs)

        return np.array(doc1.multiply(doc2).sum())
