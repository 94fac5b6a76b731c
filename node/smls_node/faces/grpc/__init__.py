# SPDX-License-Identifier: MIT
"""The dialects over gRPC: the Open Inference Protocol's and TensorFlow Serving's services."""
