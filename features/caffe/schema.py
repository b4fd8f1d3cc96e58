"""The messages of Caffe that the toolkit reads, built when they are first needed.

`SCHEMA` is the part of `caffe.proto` (BVLC Caffe) that describes a network at test time; names,
numbers and defaults are Caffe's. Fields that are not here are skipped, as protobuf does.
"""

from __future__ import annotations

import functools
import re
from typing import Any

SCHEMA = """
message BlobShape
    repeated int64 dim = 1 packed
message BlobProto
    optional BlobShape shape = 7
    repeated float data = 5 packed
    repeated double double_data = 8 packed
    optional int32 num = 1
    optional int32 channels = 2
    optional int32 height = 3
    optional int32 width = 4
enum Phase TRAIN=0 TEST=1
message NetState
    optional Phase phase = 1
    optional int32 level = 2
    repeated string stage = 3
message NetStateRule
    optional Phase phase = 1
    optional int32 min_level = 2
    optional int32 max_level = 3
    repeated string stage = 4
    repeated string not_stage = 5
message NetParameter
    optional string name = 1
    repeated V1LayerParameter layers = 2
    repeated string input = 3
    repeated int32 input_dim = 4
    optional NetState state = 6
    repeated BlobShape input_shape = 8
    repeated LayerParameter layer = 100
message LayerParameter
    optional string name = 1
    optional string type = 2
    repeated string bottom = 3
    repeated string top = 4
    repeated BlobProto blobs = 7
    repeated NetStateRule include = 8
    repeated NetStateRule exclude = 9
    optional TransformationParameter transform_param = 100
    optional ConcatParameter concat_param = 104
    optional ConvolutionParameter convolution_param = 106
    optional EltwiseParameter eltwise_param = 110
    optional InnerProductParameter inner_product_param = 117
    optional LRNParameter lrn_param = 118
    optional MemoryDataParameter memory_data_param = 119
    optional PoolingParameter pooling_param = 121
    optional PowerParameter power_param = 122
    optional ReLUParameter relu_param = 123
    optional SoftmaxParameter softmax_param = 125
    optional SliceParameter slice_param = 126
    optional PReLUParameter prelu_param = 131
    optional ReshapeParameter reshape_param = 133
    optional FlattenParameter flatten_param = 135
    optional BatchNormParameter batch_norm_param = 139
    optional ELUParameter elu_param = 140
    optional ScaleParameter scale_param = 142
    optional InputParameter input_param = 143
message V1LayerParameter
    repeated string bottom = 2
    repeated string top = 3
    optional string name = 4
    optional LayerType type = 5
    repeated BlobProto blobs = 6
    optional ConcatParameter concat_param = 9
    optional ConvolutionParameter convolution_param = 10
    optional InnerProductParameter inner_product_param = 17
    optional LRNParameter lrn_param = 18
    optional PoolingParameter pooling_param = 19
    optional PowerParameter power_param = 21
    optional MemoryDataParameter memory_data_param = 22
    optional EltwiseParameter eltwise_param = 24
    optional ReLUParameter relu_param = 30
    optional SliceParameter slice_param = 31
    repeated NetStateRule include = 32
    repeated NetStateRule exclude = 33
    optional TransformationParameter transform_param = 36
    optional SoftmaxParameter softmax_param = 39
enum LayerType NONE=0 ACCURACY=1 BNLL=2 CONCAT=3 CONVOLUTION=4 DATA=5 DROPOUT=6 EUCLIDEAN_LOSS=7
    FLATTEN=8 HDF5_DATA=9 HDF5_OUTPUT=10 IM2COL=11 IMAGE_DATA=12 INFOGAIN_LOSS=13 INNER_PRODUCT=14
    LRN=15 MULTINOMIAL_LOGISTIC_LOSS=16 POOLING=17 RELU=18 SIGMOID=19 SOFTMAX=20 SOFTMAX_LOSS=21
    SPLIT=22 TANH=23 WINDOW_DATA=24 ELTWISE=25 POWER=26 SIGMOID_CROSS_ENTROPY_LOSS=27 HINGE_LOSS=28
    MEMORY_DATA=29 ARGMAX=30 THRESHOLD=31 DUMMY_DATA=32 SLICE=33 MVN=34 ABSVAL=35 SILENCE=36
    CONTRASTIVE_LOSS=37 EXP=38 DECONVOLUTION=39
message TransformationParameter
    optional uint32 crop_size = 3
message MemoryDataParameter
    optional uint32 channels = 2
    optional uint32 height = 3
    optional uint32 width = 4
message InputParameter
    repeated BlobShape shape = 1
message ConcatParameter
    optional uint32 concat_dim = 1 default 1
    optional int32 axis = 2 default 1
message ConvolutionParameter
    optional uint32 num_output = 1
    optional bool bias_term = 2 default true
    repeated uint32 pad = 3
    repeated uint32 kernel_size = 4
    optional uint32 group = 5 default 1
    repeated uint32 stride = 6
    optional uint32 pad_h = 9
    optional uint32 pad_w = 10
    optional uint32 kernel_h = 11
    optional uint32 kernel_w = 12
    optional uint32 stride_h = 13
    optional uint32 stride_w = 14
    optional int32 axis = 16 default 1
    repeated uint32 dilation = 18
enum EltwiseOp PROD=0 SUM=1 MAX=2
message EltwiseParameter
    optional EltwiseOp operation = 1 default SUM
    repeated float coeff = 2
message InnerProductParameter
    optional uint32 num_output = 1
    optional bool bias_term = 2 default true
    optional int32 axis = 5 default 1
    optional bool transpose = 6
enum NormRegion ACROSS_CHANNELS=0 WITHIN_CHANNEL=1
message LRNParameter
    optional uint32 local_size = 1 default 5
    optional float alpha = 2 default 1
    optional float beta = 3 default 0.75
    optional NormRegion norm_region = 4
    optional float k = 5 default 1
enum PoolMethod MAX=0 AVE=1 STOCHASTIC=2
enum RoundMode CEIL=0 FLOOR=1
message PoolingParameter
    optional PoolMethod pool = 1
    optional uint32 kernel_size = 2
    optional uint32 stride = 3
    optional uint32 pad = 4
    optional uint32 kernel_h = 5
    optional uint32 kernel_w = 6
    optional uint32 stride_h = 7
    optional uint32 stride_w = 8
    optional uint32 pad_h = 9
    optional uint32 pad_w = 10
    optional bool global_pooling = 12
    optional RoundMode round_mode = 13
message PowerParameter
    optional float power = 1 default 1
    optional float scale = 2 default 1
    optional float shift = 3
message ReLUParameter
    optional float negative_slope = 1
message SoftmaxParameter
    optional int32 axis = 2 default 1
message SliceParameter
    optional uint32 slice_dim = 1 default 1
    repeated uint32 slice_point = 2
    optional int32 axis = 3 default 1
message PReLUParameter
    optional bool channel_shared = 2
message ReshapeParameter
    optional BlobShape shape = 1
    optional int32 axis = 2
    optional int32 num_axes = 3 default -1
message FlattenParameter
    optional int32 axis = 1 default 1
    optional int32 end_axis = 2 default -1
message BatchNormParameter
    optional bool use_global_stats = 1 default true
    optional float moving_average_fraction = 2 default 0.999
    optional float eps = 3 default 1e-5
message ELUParameter
    optional float alpha = 1 default 1
message ScaleParameter
    optional int32 axis = 1 default 1
    optional int32 num_axes = 2 default 1
    optional bool bias_term = 4
"""

_IRREGULAR = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "TANH": "TanH",
}
_FIELD = re.compile(r"(optional|repeated) (\w+) (\w+) = (\d+)(?: default (\S+)| (packed))?")


@functools.cache
def message(name: str) -> Any:
    """The message class `name` of `SCHEMA`."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"caffe.{name}"))


def choice(parameters: Any, field: str) -> str:
    """The name of the value that an enumerated field of a message has."""
    values = parameters.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    name: str = values[getattr(parameters, field)].name
    return name


def layer_type(layer: Any) -> str:
    """The type of a layer by its new name (`InnerProduct`), also of an old one (`INNER_PRODUCT`)."""
    if layer.DESCRIPTOR.name == "LayerParameter":
        new: str = layer.type
        return new
    old = choice(layer, "type")
    return _IRREGULAR.get(old, old.title().replace("_", ""))


@functools.cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    enums = set(re.findall(r"^enum (\w+)", SCHEMA, re.MULTILINE))
    for block in re.split(r"\n(?=message|enum)", SCHEMA.strip()):
        head, body = re.split(r"\s+(?=\w+=|\Z)|\n", block, maxsplit=1)
        name = head.split()[1]
        if head.startswith("enum"):
            # Enum values live beside their enum, and MAX is one of two: hence the prefix.
            enum = file.message_type.add(name=f"{name}Enum").enum_type.add(name=name)
            for value in body.split():
                key, _, number = value.partition("=")
                enum.value.add(name=key, number=int(number))
            continue
        made = file.message_type.add(name=name)
        for label, kind, field, number, default, packed in _FIELD.findall(body):
            added = made.field.add(name=field, number=int(number))
            added.label = getattr(kinds, f"LABEL_{label.upper()}")
            if kind in enums:
                added.type, added.type_name = kinds.TYPE_ENUM, f".caffe.{kind}Enum.{kind}"
            elif kind[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if default:
                added.default_value = default
            if packed:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
